package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/snapshot"
)

// mostDocument bounds what is read of a document in the state directory.
const mostDocument = 16 << 20

// published are the snapshots of ours that are to be here: those that were published
// and that no prune has deleted. What of them is not here was taken away, and only
// this list says so. It lies in the state directory, apart from history.db, which it
// outlives, and from the backups, which it is about.
type published struct {
	Snapshots []snapshot.Stamp `json:"snapshots"`
	// Settled says of what was damaged or gone how it ended, where nothing was healed.
	Settled map[string]string `json:"settled,omitempty"`
}

// How damage ends that nothing has healed.
const (
	acceptedAsLost = "accepted as lost"
	deletedByPrune = "deleted by a prune"

	settledMost = 100 // that are remembered
)

func (a *App) publishedPath() string { return filepath.Join(a.Config.StateDir, "published.json") }

// publishedMark is the file that says that there was a list: where it lies alone, the
// list was lost.
func (a *App) publishedMark() string { return filepath.Join(a.Config.StateDir, "published.kept") }

// published returns the list; an empty one where none was ever written.
func (a *App) published() (p published, err error) {
	path := a.publishedPath()
	data, err := fsx.ReadRegular(path, mostDocument)
	if errors.Is(err, fs.ErrNotExist) && isGone(a.publishedMark()) {
		return p, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &p)
	}
	if err != nil {
		return published{}, &failure.Error{Op: "published snapshots", Subject: path, Err: err,
			Hint: "compare `atobackupd list` with what should be there, and then: atobackupd accept backup-dir"}
	}
	return p, nil
}

// changePublished changes the list. Several processes may do so at once.
func (a *App) changePublished(ctx context.Context, change func(*published)) error {
	return a.rewritePublished(ctx, change, false)
}

// rewritePublished changes the list. One that cannot be read is left as it is, for it
// is the only witness of what should be here; unless anew, which moves it aside.
func (a *App) rewritePublished(ctx context.Context, change func(*published), anew bool) error {
	path, lock := a.publishedPath(), filepath.Join(a.Config.StateDir, "published.lock")
	read := func() (published, error) {
		p, err := a.published()
		if err != nil && anew {
			err = moveAsideUnreadable(path)
			if errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
		}
		return p, err
	}
	const purpose = "writing the list of snapshots"
	err := rewriteJSON(context.WithoutCancel(ctx), path, lock, purpose, read, func(p *published) {
		change(p)
		slices.Sort(p.Snapshots)
		p.Snapshots = slices.Compact(p.Snapshots)
		for stamp := range sorted(p.Settled) {
			if len(p.Settled) > settledMost {
				delete(p.Settled, stamp)
			}
		}
	})
	if err == nil && isGone(a.publishedMark()) && !isGone(path) {
		err = fsx.WriteFile(a.publishedMark(), nil, 0o600)
	}
	return err
}

// settle takes snapshots off the list, and says how where they were not well.
func (p *published) settle(how string, stamps ...snapshot.Stamp) {
	p.Snapshots = slices.DeleteFunc(p.Snapshots, func(s snapshot.Stamp) bool { return slices.Contains(stamps, s) })
	for _, stamp := range stamps {
		if how == "" {
			delete(p.Settled, string(stamp))
			continue
		}
		if p.Settled == nil {
			p.Settled = make(map[string]string)
		}
		p.Settled[string(stamp)] = how
	}
}

// notePublished puts what lies in snapshots/ on the list. It is done whenever the
// store is opened to be written to, and after each job, so that what an older version
// or a process that died has published is on it too.
func (a *App) notePublished(ctx context.Context) {
	here, err := a.oursOnDisk()
	if err == nil && len(here) > 0 {
		err = a.changePublished(ctx, func(p *published) { p.Snapshots = append(p.Snapshots, here...) })
	}
	if err != nil {
		a.Options.Log.Error("which snapshots are here could not be written down", "error", err)
	}
}

// oursOnDisk returns the snapshots that have a manifest of ours. What another user
// made, or can change, is not ours to miss.
func (a *App) oursOnDisk() (here []snapshot.Stamp, err error) {
	dir := filepath.Join(a.Config.Backup.Dir, "snapshots")
	entries, err := os.ReadDir(dir)
	if fsx.IsMissing(err) {
		return nil, nil
	}
	for _, entry := range entries {
		stamp, err := snapshot.ParseStamp(entry.Name())
		if err != nil || !entry.IsDir() {
			continue
		}
		info, err := os.Lstat(filepath.Join(dir, entry.Name(), snapshot.ManifestFile))
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if owner, ok := info.Sys().(*syscall.Stat_t); ok && a.Owners().Has(int(owner.Uid)) {
			here = append(here, stamp)
		}
	}
	return here, err
}

// vanished returns what is on the list and was not seen, although no prune of ours took
// it away. What is pruned is off the list before its directory goes, and what is taken
// is on it afterwards, so that a job which ends between two looks is no loss.
func (a *App) vanished(list []snapshot.Snapshot) (gone []snapshot.Stamp, err error) {
	p, err := a.published()
	if err != nil {
		return nil, err
	}
	for _, stamp := range p.Snapshots {
		seen := slices.ContainsFunc(list, func(s snapshot.Snapshot) bool { return s.Stamp == stamp })
		if _, err := a.store.Get(stamp); !seen && failure.KindOf(err) == failure.NotFound {
			gone = append(gone, stamp)
		}
	}
	if len(gone) == 0 {
		return nil, nil
	}
	p, err = a.published()
	return slices.DeleteFunc(gone, func(s snapshot.Stamp) bool { return !slices.Contains(p.Snapshots, s) }), err
}

// disowned names the snapshots of ours that somebody else owns now. Whoever that is
// can change them and their manifests, so that they count for nothing.
func (a *App) disowned(list []snapshot.Snapshot) (all []health.Damage) {
	p, err := a.published()
	if err != nil {
		return nil // missing tells
	}
	for _, s := range list {
		if s.Foreign && slices.Contains(p.Snapshots, s.Stamp) {
			all = append(all, health.Damage{Subject: string(s.Stamp),
				What: "it belongs to somebody else now, who can change it, and counts for nothing",
				Hint: fmt.Sprintf("if nobody has changed it: chown -R --reference=%s %s, and then: "+
					"atobackupd validate %s", a.Config.Backup.Dir, s.Path, s.Stamp)})
		}
	}
	return all
}

// described reports whether a snapshot was published here, and so has a manifest
// unless that was taken away. Where the list cannot be read it is false: damage tells.
func (a *App) described(stamp snapshot.Stamp) bool {
	p, err := a.published()
	return err == nil && slices.Contains(p.Snapshots, stamp)
}

// overlayUndescribed marks the snapshots of ours that have lost their manifest: what
// their files should be nobody knows, whatever was found of them before.
func (a *App) overlayUndescribed(list []snapshot.Snapshot) {
	p, err := a.published()
	if err != nil {
		return // damage tells
	}
	for i := range list {
		s := &list[i]
		if s.Manifest == nil && !s.Foreign && slices.Contains(p.Snapshots, s.Stamp) && (s.Valid == nil || *s.Valid) {
			invalid := false
			s.Valid, s.Errors = &invalid, []string{snapshot.ManifestGone}
			s.Checked = time.Time{} // the next prune looks at it
		}
	}
}

// acceptGone says of a snapshot that is on the list and not here that nobody need look
// for it any more. It reports whether there was one.
func (a *App) acceptGone(ctx context.Context, stamp snapshot.Stamp, list []snapshot.Snapshot) (bool, error) {
	gone, err := a.vanished(list)
	if err != nil || !slices.Contains(gone, stamp) {
		return false, err
	}
	lock, err := a.Lock(ctx, "accept "+string(stamp))
	if err != nil {
		return false, err
	}
	defer lock.Unlock()
	a.forgetChecks(ctx, stamp)
	return true, a.changePublished(ctx, func(p *published) { p.settle(acceptedAsLost, stamp) })
}

// forgetChecks forgets what was found out about a snapshot that is not here any more.
func (a *App) forgetChecks(ctx context.Context, stamp snapshot.Stamp) {
	a.NoteHistoryError(a.history.ForgetValidation(ctx, string(stamp)))
	a.noteFindings(ctx, func(found findings) { delete(found, string(stamp)) })
}

// acceptDir puts what lies in snapshots/ on the list, and nothing else.
func (a *App) acceptDir(ctx context.Context) error {
	here, err := a.oursOnDisk()
	if err != nil {
		return err
	}
	return a.rewritePublished(ctx, func(p *published) {
		gone := slices.DeleteFunc(slices.Clone(p.Snapshots),
			func(stamp snapshot.Stamp) bool { return slices.Contains(here, stamp) })
		p.settle(acceptedAsLost, gone...)
		p.Snapshots = append(p.Snapshots, here...)
	}, true)
}

// settled says how damage ended that nothing has healed: the snapshot was given up, or
// the target is not configured any more.
func (a *App) settled() (all []health.Settled) {
	if p, err := a.published(); err == nil {
		for stamp, how := range sorted(p.Settled) {
			all = append(all, health.Settled{Subject: stamp, How: how})
		}
	}
	known, err := os.ReadDir(filepath.Join(a.Config.StateDir, "targets"))
	if err != nil {
		return all // no target was ever used
	}
	for _, entry := range known {
		name := entry.Name()
		if !slices.ContainsFunc(a.Config.Offsite, func(t config.Target) bool { return t.Name == name }) {
			all = append(all, health.Settled{Subject: name + " (", How: health.Unwatched})
		}
	}
	for _, t := range a.Config.Offsite {
		state, err := offsite.LoadState(a.Config.StateDir, t.Name)
		if err != nil {
			continue // its leg tells
		}
		for _, stamp := range state.Forgotten {
			all = append(all, health.Settled{Subject: "needed by " + string(stamp), How: "taken out of " + t.Name})
		}
	}
	return all
}
