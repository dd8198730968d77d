package app

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/snapshot"
)

// Finding is damage that somebody found in a snapshot of this machine. It stands
// until the same snapshot was checked again and is clean. Those about a vault lie
// in the state of its target.
type Finding struct {
	What  []string  `json:"what"`
	Found time.Time `json:"found"`
	By    string    `json:"by"` // the job or command
}

// findings are those of this machine, by stamp.
type findings map[string]Finding

// findingsFile lies beside the backups: it survives the loss of history.db.
const findingsFile = "findings.json"

// findingsMost bounds what is read of such a file, which others may be able to
// write. It can add findings, and nothing else is decided by it.
const findingsMost = 4 << 20

func (a *App) findingsPath() string { return filepath.Join(a.Config.Backup.Dir, findingsFile) }

// findings returns what was found and not checked clean since.
func (a *App) findings() (findings, error) {
	path := a.findingsPath()
	data, err := fsx.ReadRegular(path, findingsMost)
	if fsx.IsMissing(err) {
		return findings{}, nil
	}
	found := findings{}
	if err == nil {
		err = json.Unmarshal(data, &found)
	}
	if err != nil {
		return nil, &failure.Error{Op: "findings", Subject: path, Err: err,
			Hint: "check everything again, and then remove the file: atobackupd scrub --all"}
	}
	return found, nil
}

// changeFindings changes the findings. Several processes may do so at once.
func (a *App) changeFindings(ctx context.Context, change func(findings)) error {
	path, lock := a.findingsPath(), filepath.Join(a.Config.StateDir, "findings.lock")
	return rewriteJSON(ctx, path, lock, "writing findings", func() (findings, error) {
		found, err := a.findings()
		if err != nil { // it is replaced by what is found now
			return findings{}, moveAsideUnreadable(path)
		}
		return found, nil
	}, func(found *findings) { change(*found) })
}

// noteFindings changes findings, and logs where that cannot be done: the check
// that found them fails by itself.
func (a *App) noteFindings(ctx context.Context, change func(findings)) {
	if a.Options.ReadOnly {
		return
	}
	if err := a.changeFindings(context.WithoutCancel(ctx), change); err != nil {
		a.Options.Log.Error("what was found damaged could not be written down", "error", err)
	}
}

// noteValidation keeps or ends the finding about a snapshot of this machine,
// after it was read again as a whole.
func (a *App) noteValidation(ctx context.Context, stamp snapshot.Stamp, valid bool, what []string, by string) {
	a.noteFindings(ctx, func(found findings) {
		if valid {
			delete(found, string(stamp))
			return
		}
		found.add(string(stamp), Finding{What: what, By: by})
	})
}

// noteSharing makes findings about the other snapshots that hold the very files which
// were found damaged in one: they are damaged as well, and nothing tells once this one
// has files of its own again. manifest may be nil, for that of the snapshot.
func (a *App) noteSharing(ctx context.Context, stamp snapshot.Stamp, manifest *snapshot.Manifest,
	damaged []snapshot.Damage) {
	if len(damaged) == 0 || a.Options.ReadOnly {
		return
	}
	if manifest == nil {
		var err error
		if manifest, err = snapshot.ReadManifest(a.store.Path(stamp)); err != nil {
			return // what its files should be is not known
		}
	}
	sharing, err := a.store.Sharing(stamp, manifest, damaged)
	if err != nil {
		a.Options.Log.Error("which snapshots share what was found damaged could not be told", "stamp", stamp, "error", err)
		return
	}
	if len(sharing) == 0 {
		return
	}
	a.noteFindings(ctx, func(found findings) {
		for other, what := range sharing {
			for _, known := range found[string(other)].What {
				if !slices.Contains(what, known) {
					what = append(what, known)
				}
			}
			found.add(string(other), Finding{What: what, By: bySharing})
		}
	})
}

// bySharing made a finding: another snapshot that holds the same file was checked.
const bySharing = "sharing"

// checkSharing checks the snapshots again of which damage is known only from a snapshot
// that is whole now, and that still hold a file of it.
func (a *App) checkSharing(ctx context.Context, stamp snapshot.Stamp) {
	found, err := a.findings()
	if err != nil {
		return // told by whoever looks
	}
	maps.DeleteFunc(found, func(_ string, f Finding) bool { return f.By != bySharing })
	if len(found) == 0 {
		return
	}
	manifest, err := snapshot.ReadManifest(a.store.Path(stamp))
	if err != nil {
		return
	}
	var all []snapshot.Damage
	for _, f := range manifest.Files {
		all = append(all, snapshot.Damage{Path: f.Path})
	}
	sharing, err := a.store.Sharing(stamp, manifest, all)
	for other := range sharing {
		if _, suspected := found[string(other)]; !suspected {
			continue
		}
		result, checkErr := a.store.Validate(ctx, other, a.validateOptions(other))
		if err = errors.Join(err, checkErr); checkErr == nil && result.Exists {
			a.noteValidation(ctx, other, result.Valid, result.Errors, "validate")
		}
	}
	if err != nil {
		a.Options.Log.Error("a snapshot that may be damaged could not be read again", "error", err)
	}
}

// add notes a finding; one that stands keeps the time at which it was found.
func (found findings) add(subject string, f Finding) {
	f.Found = time.Now().UTC().Truncate(time.Millisecond)
	if old, ok := found[subject]; ok {
		f.Found = old.Found
	}
	found[subject] = f
}

// damage returns what is damaged at now, here and off-site: what was found and
// not checked clean since, and what the look at the files itself shows.
func (a *App) damage(r remedies) []health.Damage {
	var all []health.Damage
	for _, s := range r.list {
		if isDamaged(s) {
			since := s.InvalidSince
			if since.IsZero() {
				since = s.Checked
			}
			all = append(all, health.Damage{Subject: string(s.Stamp), What: firstFew(s.Errors),
				Hint: r.ofSnapshot(s), Since: since})
		}
	}
	all = append(append(all, a.noDirectories()...), a.disowned(r.list)...)
	if _, err := a.findings(); err != nil { // else its snapshots are in list, marked by overlayFindings
		all = append(all, health.Damage{Subject: a.findingsPath(), What: err.Error(), Hint: "atobackupd scrub --all"})
	}
	for _, t := range a.Config.Offsite {
		checks, err := offsite.LoadChecks(a.Config.StateDir, t.Name)
		if err != nil {
			all = append(all, health.Damage{Subject: t.Name, What: err.Error(), Hint: failure.HintOf(err)})
			continue
		}
		for _, f := range checks.Findings {
			all = append(all, health.Damage{Subject: t.Name, What: f.String(), Hint: r.ofObject(t, f), Since: f.Found})
		}
	}
	return all
}

// noDirectories names what bears the stamp of a snapshot and is no directory: somebody
// put a file or a link there, and the catalog cannot list it.
func (a *App) noDirectories() (all []health.Damage) {
	dir := filepath.Join(a.Config.Backup.Dir, "snapshots")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // the legs tell
	}
	for _, entry := range entries {
		if _, err := snapshot.ParseStamp(entry.Name()); err == nil && !entry.IsDir() {
			all = append(all, health.Damage{Subject: entry.Name(), What: "it is no directory",
				Hint: "see what it is, and move it away: ls -l " + filepath.Join(dir, entry.Name())})
		}
	}
	return all
}

// overlayFindings marks the snapshots about which there is a finding.
func (a *App) overlayFindings(list []snapshot.Snapshot) {
	found, err := a.findings()
	if err != nil {
		return // damage tells
	}
	for i := range list {
		overlayFinding(&list[i], found)
	}
}

func overlayFinding(s *snapshot.Snapshot, found findings) {
	f, ok := found[string(s.Stamp)]
	if !ok {
		return
	}
	invalid := false
	s.Valid, s.Errors = &invalid, f.What
	if s.InvalidSince.IsZero() || f.Found.Before(s.InvalidSince) {
		s.InvalidSince = f.Found
	}
}

// isDamaged reports whether a snapshot is not valid and was not taken as such.
func isDamaged(s snapshot.Snapshot) bool {
	bornSo := s.Manifest != nil && !s.Manifest.Validation.Valid
	return s.Valid != nil && !*s.Valid && !bornSo
}
