package app

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/retention"
	"github.com/atocore/atobackupd/snapshot"
)

// Catalog is the document of `list`.
type Catalog struct {
	BackupDir string         `json:"backup_dir"`
	Backups   []CatalogEntry `json:"backups"`
	Warnings  []string       `json:"warnings"`
}

// CatalogEntry is one snapshot of the catalog. Valid is null while it was never
// validated.
type CatalogEntry struct {
	Stamp          snapshot.Stamp `json:"stamp"`
	Path           string         `json:"path"`
	Kind           snapshot.Kind  `json:"kind"`
	Full           bool           `json:"full"`
	Valid          *bool          `json:"valid"`
	Pinned         bool           `json:"pinned"`
	Suspect        []string       `json:"suspect"` // codes, until they are accepted
	Note           string         `json:"note"`
	Bytes          int64          `json:"bytes"`
	BytesExclusive int64          `json:"bytes_exclusive"`
	CreatedAt      time.Time      `json:"created_at"`
	Offsite        []string       `json:"offsite"`
}

// List returns the catalog, oldest first.
func (a *App) List(ctx context.Context, now time.Time) (Catalog, error) {
	c := Catalog{BackupDir: a.Config.Backup.Dir, Backups: []CatalogEntry{}, Warnings: []string{}}
	list, warnings, err := a.Snapshots(ctx, now)
	if err != nil {
		return c, err
	}
	c.Warnings = append(c.Warnings, warnings...)
	a.store.MeasureExclusive(list)
	holders, err := a.heldOffsite(ctx)
	if err != nil {
		c.Warnings = append(c.Warnings, err.Error())
	}
	for _, s := range list {
		note := ""
		if s.Manifest != nil {
			note = s.Manifest.Note
		}
		c.Backups = append(c.Backups, CatalogEntry{
			Suspect: append([]string{}, s.Suspicions()...), Note: note,
			Stamp: s.Stamp, Path: s.Path, Kind: s.Kind, Full: s.Full, Valid: s.Valid, Pinned: s.Pinned,
			Bytes: s.Bytes, BytesExclusive: s.BytesExclusive, CreatedAt: s.CreatedAt,
			Offsite: append([]string{}, holders[s.Stamp]...),
		})
	}
	return c, nil
}

// OffsiteHolders says which targets held which stamp when they were last seen. Two that
// are pinned to one vault are one copy.
func (a *App) OffsiteHolders() (map[snapshot.Stamp][]string, error) {
	holders := make(map[snapshot.Stamp][]string)
	var errs []error
	for _, t := range a.Config.Offsite {
		state, err := offsite.LoadState(a.Config.StateDir, t.Name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if a.onlyHolder(t.Name, state, state.VaultID) != nil {
			continue
		}
		for _, stamp := range state.Stamps {
			holders[stamp] = append(holders[stamp], t.Name)
		}
	}
	return holders, errors.Join(errs...)
}

// heldOffsite is OffsiteHolders without the targets whose vault is away.
func (a *App) heldOffsite(ctx context.Context) (map[snapshot.Stamp][]string, error) {
	holders, err := a.OffsiteHolders()
	for _, t := range a.Config.Offsite {
		if !a.vaultAway(ctx, t.Name) {
			continue
		}
		for stamp, names := range holders {
			holders[stamp] = slices.DeleteFunc(names, func(name string) bool { return name == t.Name })
		}
	}
	return holders, err
}

// vaultAway reports whether a target's vault was not found when it was looked for last.
func (a *App) vaultAway(ctx context.Context, target string) bool {
	var looks []history.Run
	for _, l := range legs(a.Config) {
		if l.target == target || l.name == health.LegVerify(target) {
			last, _ := a.newestRun(ctx, l)
			looks = append(looks, last)
		}
	}
	return len(looks) > 0 && health.VaultAway(looks...)
}

// Snapshots lists what is published, with what the history found out since each
// was taken.
func (a *App) Snapshots(ctx context.Context, now time.Time) ([]snapshot.Snapshot, []string, error) {
	list, warnings, err := a.store.List(now)
	if err != nil {
		return nil, nil, err
	}
	checks, err := a.history.Validations(ctx)
	a.NoteHistoryError(err)
	byStamp := make(map[string]history.Validation, len(checks))
	for _, v := range checks {
		byStamp[v.Stamp] = v
	}
	for i := range list {
		if v, ok := byStamp[string(list[i].Stamp)]; ok {
			overlay(&list[i], v)
		}
	}
	a.overlayUndescribed(list)
	a.overlayFindings(list)
	return list, warnings, nil
}

// overlay puts a later check over what the manifest says.
func overlay(s *snapshot.Snapshot, v history.Validation) {
	// A check that found damage counts whatever its clock said, and no check that
	// went well makes whole what the look at the files shows to be broken.
	broken := s.Valid != nil && !*s.Valid && s.Manifest != nil && s.Manifest.Validation.Valid
	if !broken && (s.Valid == nil || !v.Valid || v.CheckedAt.After(s.Checked)) {
		s.Valid, s.Errors, s.Checked, s.InvalidSince = &v.Valid, v.Errors, v.CheckedAt, v.FailedSince
	}
}

// Find returns one snapshot by stamp, or by "latest": the newest that counts, and a
// notice of each newer one that is not valid.
func (a *App) Find(ctx context.Context, name string, now time.Time) (snapshot.Snapshot, error) {
	if name != "latest" {
		stamp, err := snapshot.ParseStamp(name)
		if err != nil {
			return snapshot.Snapshot{}, err
		}
		s, err := a.store.Get(stamp)
		if err != nil {
			return s, err
		}
		if v, ok, err := a.history.Validation(ctx, name); err == nil && ok {
			overlay(&s, v)
		}
		if found, err := a.findings(); err == nil {
			overlayFinding(&s, found)
		}
		return s, nil
	}
	list, _, err := a.Snapshots(ctx, now)
	if err != nil {
		return snapshot.Snapshot{}, err
	}
	if newest := snapshot.Newest(list, now, false); newest != nil {
		for _, s := range list {
			if s.Stamp > newest.Stamp && !s.Foreign && !s.IsValid() && snapshot.Eligible(s.Stamp, s.Kind, now) {
				a.notice(fmt.Sprintf("%s is newer than %s, the latest valid one, and was passed over: what is wrong "+
					"with it says `atobackupd validate %s`", s.Stamp, newest.Stamp, s.Stamp))
			}
		}
		return *newest, nil
	}
	return snapshot.Snapshot{}, &failure.Error{Op: "snapshot", Subject: "latest", Kind: failure.NotFound,
		Err: fmt.Errorf("there is no valid snapshot in %s", a.Config.Backup.Dir), Hint: "take one: atobackupd backup"}
}

// planned turns the catalog into what retention reasons about.
func (a *App) planned(list []snapshot.Snapshot) []retention.Snapshot {
	var plan []retention.Snapshot
	for _, s := range list {
		if s.Foreign {
			continue // neither ours to count nor to delete
		}
		r := ForRetention(s)
		// Nobody reads it when it can be locked for a moment.
		if a.store.InUse(s.Stamp) {
			r.InUse = "it is being read"
		}
		plan = append(plan, r)
	}
	return plan
}

// ForRetention is what retention needs to know of a snapshot by itself.
func ForRetention(s snapshot.Snapshot) retention.Snapshot {
	r := retention.Snapshot{Stamp: string(s.Stamp), Time: s.Stamp.Time(), Kind: string(s.Kind), Full: s.Full,
		Valid: s.IsValid(), Pinned: s.Pinned, Suspect: len(s.Suspicions()) > 0}
	if !r.Valid {
		r.InvalidSince = s.InvalidSince
		if r.InvalidSince.IsZero() {
			r.InvalidSince = s.Checked
		}
	}
	return r
}

// Pin sets or takes away the mark that keeps a snapshot from being pruned. One
// that AtoCore's own tools made is adopted first, for the mark lies in our
// manifest; the error is of kind Invalid where it does not validate.
func (a *App) Pin(ctx context.Context, stamp snapshot.Stamp, pinned bool) error {
	lock, err := a.Lock(ctx, "pin "+string(stamp))
	if err != nil {
		return err
	}
	defer lock.Unlock()
	snap, err := a.store.Get(stamp)
	if err != nil {
		return err
	}
	if snap.Manifest == nil && pinned {
		as, result, err := a.adopt(ctx, &snap, a.validateOptions(stamp))
		if err != nil {
			return err
		}
		if as != "" {
			stamp = as
		}
		if !result.Valid {
			return &failure.Error{Op: "pin", Subject: string(stamp), Kind: failure.Invalid,
				Err: fmt.Errorf("it is not valid: %s", strings.Join(result.Errors, "; ")), Hint: "pin another one"}
		}
	}
	return a.store.Pin(stamp, pinned)
}

// sorted yields the entries of a map in the order of their keys.
func sorted[V any](m map[string]V) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if !yield(key, m[key]) {
				return
			}
		}
	}
}
