package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/snapshot"
)

// Finding is damage that somebody found: in a snapshot, or in an object of a
// vault. It stands until the same thing was checked again and is clean.
type Finding struct {
	What  []string  `json:"what"`
	Found time.Time `json:"found"`
	By    string    `json:"by"` // the job or command
	Hint  string    `json:"hint,omitempty"`
}

// findings are those of one place, by what they are about: the stamp of a
// snapshot, or the name of an object.
type findings map[string]Finding

// findingsFile is the name of the file of findings: beside the backups for those
// of this machine, and in the state of each target for those of its vault. They
// survive the loss of history.db.
const findingsFile = "findings.json"

// findingsMost bounds what is read of such a file, which others may be able to
// write. It can add findings, and nothing else is decided by it.
const findingsMost = 4 << 20

func (a *App) findingsPath(target string) string {
	if target == "" {
		return filepath.Join(a.Config.Backup.Dir, findingsFile)
	}
	return filepath.Join(offsite.StateDir(a.Config.StateDir, target), findingsFile)
}

// findings returns those of this machine, or of a target's vault.
func (a *App) findings(target string) (findings, error) {
	path := a.findingsPath(target)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return findings{}, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, findingsMost))
	if err != nil {
		return nil, err
	}
	found := findings{}
	if err := json.Unmarshal(data, &found); err != nil {
		return nil, &failure.Error{Op: "findings", Subject: path, Err: err, Hint: "check everything again, and then remove the file: atobackupd scrub --all"}
	}
	return found, nil
}

// changeFindings changes the findings of a place, of which change may delete and
// add. Several processes may do so at once.
func (a *App) changeFindings(ctx context.Context, target string, change func(findings)) error {
	path := a.findingsPath(target)
	lock, err := fsx.LockFile(ctx, filepath.Join(a.Config.StateDir, "findings.lock"), "writing findings", 10*time.Second, nil)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	found, err := a.findings(target)
	if err != nil {
		found = findings{} // an unreadable file is replaced by what is found now; the old one stays beside it
		if err := os.Rename(path, path+".unreadable"); err != nil {
			return err
		}
	}
	before, err := json.Marshal(found)
	if err != nil {
		return err
	}
	change(found)
	after, err := json.MarshalIndent(found, "", "  ")
	if err != nil {
		return err
	}
	if same, err := json.Marshal(found); err != nil || string(same) == string(before) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return fsx.WriteFile(path, append(after, '\n'), 0o600)
}

// noteFindings changes findings, and logs where that cannot be done: the check
// that found them fails by itself.
func (a *App) noteFindings(ctx context.Context, target string, change func(findings)) {
	if a.Options.ReadOnly {
		return
	}
	if err := a.changeFindings(context.WithoutCancel(ctx), target, change); err != nil {
		a.Options.Log.Error("what was found damaged could not be written down", "error", err)
	}
}

// noteValidation keeps or ends the finding about a snapshot of this machine,
// after it was read again as a whole.
func (a *App) noteValidation(ctx context.Context, stamp snapshot.Stamp, valid bool, what []string, by string) {
	a.noteFindings(ctx, "", func(found findings) {
		if valid {
			delete(found, string(stamp))
			return
		}
		found.add(string(stamp), Finding{What: what, By: by, Hint: "atobackupd scrub --repair"})
	})
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
func (a *App) damage(list []snapshot.Snapshot) []health.Damage {
	var all []health.Damage
	for _, s := range list {
		if isDamaged(s) {
			since := s.InvalidSince
			if since.IsZero() {
				since = s.Checked
			}
			all = append(all, health.Damage{Subject: string(s.Stamp), What: firstFew(s.Errors), Hint: "atobackupd scrub --repair", Since: since})
		}
	}
	if _, err := a.findings(""); err != nil { // else its snapshots are in list, marked by overlayFindings
		all = append(all, health.Damage{Subject: a.findingsPath(""), What: err.Error(), Hint: "atobackupd scrub --all"})
	}
	for _, t := range a.Config.Offsite {
		found, err := a.findings(t.Name)
		if err != nil {
			all = append(all, health.Damage{Subject: t.Name, What: err.Error(), Hint: "atobackupd vault verify --target " + t.Name})
		}
		for subject, f := range sorted(found) {
			all = append(all, health.Damage{Subject: t.Name + ": " + subject, What: firstFew(f.What), Hint: f.Hint, Since: f.Found})
		}
	}
	return all
}

// overlayFindings marks the snapshots about which there is a finding.
func (a *App) overlayFindings(list []snapshot.Snapshot) {
	found, err := a.findings("")
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

// NoteVault keeps or ends the findings about a target's vault after a check of
// it: damage names what was found, by object or snapshot. whole says that
// everything was looked at, so that what is not in damage is clean; else only
// what is in clean is.
func (a *App) NoteVault(ctx context.Context, target, by string, damage map[string]string, whole bool, clean ...string) {
	a.noteFindings(ctx, target, func(found findings) {
		if whole {
			clear(found)
		}
		for _, subject := range clean {
			delete(found, subject)
		}
		for subject, what := range damage {
			found.add(subject, Finding{What: strings.Split(what, "; "), By: by, Hint: fmt.Sprintf("atobackupd vault verify --target %s", target)})
		}
	})
}
