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
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/retention"
	"github.com/atocore/atobackupd/snapshot"
)

// shrunk returns the takes whose source had lost much, and that nobody accepted,
// oldest first. Each is compared with the newest before it that is not itself
// suspect, by what their manifests say: a store that is emptied is backed up like
// any other, and the good copies age out unless somebody is told.
func shrunk(list []snapshot.Snapshot, accepted []snapshot.Stamp, now time.Time) (all []health.Shrunk) {
	var base, baseFull *snapshot.Manifest
	full := make(map[string]bool)
	for _, s := range list { // oldest first
		if !s.Counts(now) || s.Manifest == nil {
			continue
		}
		codes := append(dbShrunk(base, s.Manifest), registryShrunk(base, s.Manifest)...)
		if s.Full {
			codes = append(codes, chromaShrunk(baseFull, s.Manifest)...)
		}
		if len(codes) == 0 {
			codes = s.SuspicionTexts() // what the take itself saw, in more than the manifests
		}
		if len(codes) > 0 && !slices.Contains(accepted, s.Stamp) {
			full[string(s.Stamp)] = s.Full
			all = append(all, health.Shrunk{Stamp: string(s.Stamp), What: codes, Since: s.Stamp.Time()})
			continue
		}
		// One that is well ends the suspicion of those before it that hold no more
		// than it does: a bare one says nothing of the vector store.
		all = slices.DeleteFunc(all, func(suspect health.Shrunk) bool { return s.Full || !full[suspect.Stamp] })
		if base = s.Manifest; s.Full {
			baseFull = s.Manifest
		}
	}
	return all
}

// manyRows is how many rows a table must have had for the loss of half of them
// to be more than a day's work.
const manyRows = 100

func dbShrunk(base, m *snapshot.Manifest) (codes []string) {
	if base == nil || base.DB == nil || m.DB == nil {
		return nil
	}
	for table, had := range sorted(base.DB.Tables) {
		switch has := m.DB.Tables[table]; {
		case had > 0 && has == 0:
			codes = append(codes, fmt.Sprintf("db_table_emptied: %s had %d rows in %s and has none", table, had,
				base.Stamp))
		case had >= manyRows && has < had/2:
			codes = append(codes, fmt.Sprintf("db_shrunk: %s had %d rows in %s and has %d", table, had,
				base.Stamp, has))
		}
	}
	return codes
}

func registryShrunk(base, m *snapshot.Manifest) []string {
	if base == nil || !base.Artifacts[snapshot.Registry].Included || m.Artifacts[snapshot.Registry].Included {
		return nil
	}
	return []string{"registry_shrunk: it was in " + string(base.Stamp) + " and is gone"}
}

func chromaShrunk(base, m *snapshot.Manifest) []string {
	const index = snapshot.ChromaDir + "/chroma.sqlite3"
	holds := func(m *snapshot.Manifest) bool {
		return slices.ContainsFunc(m.Files, func(f snapshot.File) bool { return f.Path == index })
	}
	switch {
	case base == nil:
		return nil
	case holds(base) && !holds(m):
		return []string{"chroma_shrunk: it had a chroma.sqlite3 in " + string(base.Stamp) + " and has none"}
	case base.Artifacts[snapshot.Chroma].Consistency == snapshot.Consistent &&
		m.Artifacts[snapshot.Chroma].Consistency == snapshot.Unverified:
		return []string{"chroma_unverified: it was consistent in " + string(base.Stamp)}
	}
	return nil
}

// acceptedFile holds the stamps of the takes whose change somebody says was meant.
func (a *App) acceptedFile() string { return filepath.Join(a.Config.StateDir, "accepted.json") }

// accepted returns the takes whose change was meant. What cannot be read accepts
// nothing.
func (a *App) accepted() (stamps []snapshot.Stamp, err error) {
	data, err := os.ReadFile(a.acceptedFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &stamps)
	}
	return stamps, err
}

// Accept says of a take that what its source had lost was meant to go.
func (a *App) Accept(ctx context.Context, stamp snapshot.Stamp) error {
	list, _, err := a.Snapshots(ctx, time.Now())
	if err != nil {
		return err
	}
	accepted, err := a.accepted()
	if err != nil {
		return err
	}
	suspect := shrunk(list, accepted, time.Now())
	if !slices.ContainsFunc(suspect, func(s health.Shrunk) bool { return s.Stamp == string(stamp) }) {
		return &failure.Error{Op: "accept", Subject: string(stamp), Kind: failure.Usage,
			Err:  errors.New("nothing about it waits to be accepted"),
			Hint: "see `atobackupd status` for what does"}
	}
	data, err := json.Marshal(append(accepted, stamp))
	if err != nil {
		return err
	}
	lock, err := a.Lock(ctx, "accept "+string(stamp))
	if err != nil {
		return err
	}
	defer lock.Unlock()
	return errors.Join(a.store.Accept(stamp, time.Now()), fsx.WriteFile(a.acceptedFile(), append(data, '\n'), 0o600))
}

// suspects returns the takes that are suspect and not accepted.
func (a *App) suspects(list []snapshot.Snapshot, now time.Time) []health.Shrunk {
	accepted, err := a.accepted()
	if err != nil {
		a.Options.Log.Warn("which changes were meant cannot be read", "error", err)
	}
	return shrunk(list, accepted, now)
}

// markSuspects tells retention which takes are suspect: it deletes nothing that
// was valid before one.
func (a *App) markSuspects(plan []retention.Snapshot, list []snapshot.Snapshot, now time.Time) []retention.Snapshot {
	for _, suspect := range a.suspects(list, now) {
		for i := range plan {
			plan[i].Suspect = plan[i].Suspect || plan[i].Stamp == suspect.Stamp
		}
	}
	return plan
}
