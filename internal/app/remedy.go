package app

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/snapshot"
)

// remedies say what to do about damage, by where good copies are known to lie. Where
// there is none they say so: a command that can do nothing is no advice.
type remedies struct {
	app  *App
	list []snapshot.Snapshot
	held map[snapshot.Stamp][]string // sound, as far as is known, by target
}

// remedies gathers where copies are known to lie.
func (a *App) remedies(ctx context.Context, list []snapshot.Snapshot) remedies {
	held, _ := a.heldOffsite(ctx) // a target whose state cannot be read is no place to heal from
	for _, t := range a.Config.Offsite {
		checks, err := offsite.LoadChecks(a.Config.StateDir, t.Name)
		if err != nil {
			continue // damage tells
		}
		for _, f := range checks.Findings {
			for _, stamp := range f.Stamps {
				held[stamp] = slices.DeleteFunc(held[stamp], func(name string) bool { return name == t.Name })
			}
		}
	}
	return remedies{app: a, list: list, held: held}
}

// remedyOf says what to do about the first of some damaged snapshots.
func (a *App) remedyOf(ctx context.Context, now time.Time, damaged []snapshot.Snapshot) string {
	if len(damaged) == 0 {
		return ""
	}
	list, _, err := a.Snapshots(ctx, now)
	if err != nil {
		return ""
	}
	return a.remedies(ctx, list).ofSnapshot(damaged[0])
}

// ofSnapshot says what to do about a damaged snapshot of this machine.
func (r remedies) ofSnapshot(s snapshot.Snapshot) string {
	stamp, damaged := string(s.Stamp), damagedFiles(s)
	switch {
	case isGone(s.Path):
		return r.ofGone(s.Stamp, false)
	case s.Manifest != nil && s.Manifest.Stamp != s.Stamp:
		return fmt.Sprintf("somebody renamed or copied it: give it its name again, or move it away: `mv %s %s`", s.Path,
			filepath.Join(filepath.Dir(s.Path), string(s.Manifest.Stamp)))
	case r.areHere(s, damaged):
		return "atobackupd scrub --repair"
	case len(r.held[s.Stamp]) > 0:
		return "atobackupd scrub --repair " + stamp + " --from " + r.held[s.Stamp][0] + " --identity FILE"
	case s.Foreign:
		return "AtoCore made it, and it counts for nothing: see what is wrong with it: atobackupd validate " + stamp
	case s.Manifest == nil:
		return "what its files should be is not known: atobackupd prune checks it as it is, and adopts it if it is " +
			"sound"
	case len(damaged) == 0:
		return "see whether something would heal it: atobackupd scrub --repair " + stamp
	}
	take := "atobackupd backup"
	if s.Full {
		take += " --chroma"
	}
	return "no good copy of what is damaged is known, here or off-site: take a new snapshot: `" + take + "`; what is " +
		"whole of this one: atobackupd restore " + stamp + " --allow-invalid --to DIR; it goes by itself " +
		english.Plural(r.app.Config.Retention.InvalidDays, "day", "") + " after it was found"
}

// ofGone says what to do about a snapshot that was taken away, perhaps with others.
func (r remedies) ofGone(stamp snapshot.Stamp, several bool) string {
	accept := string(stamp)
	if several {
		accept = "backup-dir"
	}
	if places := r.held[stamp]; len(places) > 0 {
		return "bring it back: " + RepairRequest{Stamp: stamp, From: places[0], Identity: "FILE"}.command() +
			" --confirm; if it was meant to go: atobackupd accept " + accept
	}
	return "find out who removed it, and put it back; if it was meant, or cannot be undone: atobackupd accept " + accept
}

// areHere reports whether other snapshots of this machine are said to hold all files
// that are damaged in one. Whether they do, a repair finds out.
func (r remedies) areHere(s snapshot.Snapshot, damaged []snapshot.File) bool {
	for _, f := range damaged {
		if f.Type == snapshot.TypeFile && f.Path != snapshot.MetadataFile && !r.hasCopy(s, f) {
			return false
		}
	}
	return len(damaged) > 0
}

// hasCopy reports whether a valid snapshot holds a file with the same content, which
// is not the damaged one itself under another name.
func (r remedies) hasCopy(s snapshot.Snapshot, f snapshot.File) bool {
	own, ownErr := os.Lstat(filepath.Join(s.Path, filepath.FromSlash(f.Path)))
	for _, donor := range r.list {
		if donor.Stamp == s.Stamp || donor.Manifest == nil || !donor.IsValid() {
			continue
		}
		for _, copied := range donor.Manifest.Files {
			if copied.SHA256 != f.SHA256 || copied.Size != f.Size || copied.Type != f.Type {
				continue
			}
			other, err := os.Lstat(filepath.Join(donor.Path, filepath.FromSlash(copied.Path)))
			if err == nil && (ownErr != nil || !os.SameFile(own, other)) {
				return true
			}
		}
	}
	return false
}

// damagedFiles are the files of a snapshot that its findings name: "code: path" and
// what is wrong with it.
func damagedFiles(s snapshot.Snapshot) (damaged []snapshot.File) {
	if s.Manifest == nil {
		return nil
	}
	for _, finding := range s.Errors {
		_, text, _ := strings.Cut(finding, ": ")
		i := slices.IndexFunc(s.Manifest.Files, func(f snapshot.File) bool {
			rest, ok := strings.CutPrefix(text, f.Path)
			return ok && (rest == "" || rest[0] == ':' || rest[0] == ' ')
		})
		if i >= 0 {
			damaged = append(damaged, s.Manifest.Files[i])
		}
	}
	return damaged
}

// ofObject says what to do about a damaged object of a vault.
func (r remedies) ofObject(t config.Target, f offsite.Finding) string {
	verify := "atobackupd vault verify --target " + t.Name
	if f.Object == "vault.json" && f.What == "it is missing" { // a sync takes the disk for not mounted
		return "it is made anew by: atobackupd vault init --target " + t.Name + "; and then: " + verify
	}
	for _, stamp := range f.Stamps {
		here := slices.ContainsFunc(r.list, func(s snapshot.Snapshot) bool { return s.Stamp == stamp && s.IsValid() })
		switch {
		case here:
		case t.AppendOnly:
			return fmt.Sprintf("%s is not here any more to be sent anew: to give it up, on the second machine: "+
				"`atobackupd vault forget %s --dir PATH`", stamp, stamp)
		default:
			return fmt.Sprintf("%s is not here any more to be sent anew: what is whole of it: atobackupd vault ls %s "+
				"--target %s --identity FILE; to give it up: atobackupd vault forget %s --target %s",
				stamp, stamp, t.Name, stamp, t.Name)
		}
	}
	return "it is sent anew by: atobackupd sync --target " + t.Name + "; and then: " + verify
}

// missing are the snapshots that were published and taken away.
func (a *App) missing(r remedies) (all []health.Damage) {
	gone, err := a.vanished(r.list)
	if err != nil {
		t := trouble(err)
		return []health.Damage{{Subject: a.publishedPath(), What: t.Message, Hint: t.Hint}}
	}
	for _, stamp := range gone {
		d := health.Damage{Subject: string(stamp), Gone: true, What: "it is gone, and no prune removed it; "}
		if places := r.held[stamp]; len(places) > 0 {
			d.What += strings.Join(places, " and ") + " has it"
		} else {
			d.What += "no other copy of it is known"
		}
		d.Hint = r.ofGone(stamp, len(gone) > 1)
		all = append(all, d)
	}
	return all
}
