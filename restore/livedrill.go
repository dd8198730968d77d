package restore

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/snapshot"
)

// DrillMarker begins the content of the memory that a live drill writes and
// that must be gone after the restore.
const DrillMarker = "DRILL-MARKER"

// LiveDrillRequest says how the full drill on the real service is held. The
// caller holds the store's main lock.
type LiveDrillRequest struct {
	// Restore is the managed restore; its Stamp and Dir are set here, and its
	// Service must be given.
	Restore Request
	// Snapshot says how the snapshot before the marker is taken.
	Snapshot snapshot.TakeOptions
	APIURL   string // AtoCore's, without a path
}

// LiveDrill takes a snapshot, writes a marker memory through the service, stops
// the service, restores the snapshot, starts the service, and looks that the
// marker is gone. A drill that does not pass is a DrillResult; the error is for
// what kept it from being held at all.
//
// It restores the real store: whatever else was written between the snapshot
// and the stop is gone from it afterwards, and is in the pre-restore snapshot
// that the result names.
func LiveDrill(ctx context.Context, r LiveDrillRequest) (result DrillResult, err error) {
	start := time.Now()
	result = newDrillResult("")
	result.Live = true
	defer func() { result.close(start); result.Passed = result.Passed && err == nil }()
	if err := r.possible(ctx); err != nil {
		return result, err
	}
	service := memories{url: strings.TrimSuffix(r.APIURL, "/")}
	marker := fmt.Sprintf(
		"%s %s %s",
		DrillMarker,
		time.Now().UTC().Format("2006-01-02T15:04:05Z"),
		strings.ToLower(rand.Text()[:8]),
	)
	if !result.step("snapshot", func() error {
		live := r.Restore.Live
		snap, err := r.Restore.Store.Take(
			ctx,
			snapshot.Sources{DB: live.DB, Registry: live.Registry, Chroma: live.Chroma,
				RequiredTables: r.Restore.RequiredTables},
			r.Snapshot,
		)
		if err != nil {
			return err
		}
		result.Stamp = string(snap.Stamp)
		r.Restore.Stamp, r.Restore.Dir, r.Restore.Source = snap.Stamp, "", "local"
		src, err := openSource(snap.Path, snap.Stamp, r.Restore.owners())
		if err != nil {
			return err
		}
		defer src.close()
		list, _ := stored(src, r.Restore.NoChroma)
		return result.count(list, src)
	}) {
		return result, ctx.Err()
	}
	if !result.step("marker", func() error { return service.mark(ctx, marker) }) {
		return result, ctx.Err()
	}
	var restored Result
	ok := result.step("restore", func() (err error) {
		restored, err = Run(ctx, r.Restore)
		return err
	})
	result.PreRestoreSnapshot = restored.PreRestoreSnapshot
	result.Surprises = append(result.Surprises, restored.Warnings...)
	if !ok {
		return result, ctx.Err()
	}
	result.step("marker gone", func() error { return service.gone(ctx, marker) })
	return result, ctx.Err()
}

// possible refuses a drill that could only leave a mess.
func (r LiveDrillRequest) possible(ctx context.Context) error {
	refuse := func(why, hint string) error {
		return &failure.Error{
			Op:      "drill refused",
			Subject: "live",
			Kind:    failure.Refused,
			Err:     errors.New(why),
			Hint:    hint,
		}
	}
	switch {
	case r.APIURL == "":
		return refuse("atocore.api_url is not set", "set it, or hold the drill without --live")
	case r.Restore.Service == nil || len(r.Restore.Service.Stop) == 0 || len(r.Restore.Service.Start) == 0:
		return refuse(
			"there is no way to stop and start the service",
			"set restore.stop_command and restore.start_command",
		)
	case r.Restore.NoPreSnapshot:
		return refuse("without a pre-restore snapshot there is no way back", "leave out --no-pre-snapshot")
	case r.Restore.HealthURL == "":
		return refuse("atocore.health_url is not set, so nobody could say when the service is back", "set it")
	}
	if status, err := get(ctx, r.Restore.HealthURL); err != nil || status/100 != 2 {
		return refuse("the service is not well to begin with", "start it, and see what "+
			failure.PublicURL(r.Restore.HealthURL)+" says")
	}
	return r.Restore.place().RefusePending()
}

// memories is AtoCore's API as far as a drill needs it.
type memories struct{ url string }

const drillProject = "drill"

// mark writes the marker and makes sure that the service shows it: a marker
// that was never there would be gone afterwards too.
func (m memories) mark(ctx context.Context, marker string) error {
	body, err := json.Marshal(
		map[string]any{"memory_type": "episodic", "content": marker, "project": drillProject, "confidence": 1.0},
	)
	if err != nil {
		return err
	}
	status, answer, err := m.exchange(ctx, http.MethodPost, "/memory", string(body))
	if err != nil {
		return err
	}
	if status/100 != 2 {
		return fmt.Errorf("POST /memory: status %d: %.200s", status, answer)
	}
	there, err := m.has(ctx, marker)
	if err == nil && !there {
		err = errors.New("the service took the marker memory and does not show it")
	}
	return err
}

func (m memories) gone(ctx context.Context, marker string) error {
	there, err := m.has(ctx, marker)
	if err == nil && there {
		err = errors.New(
			"the drill marker is still present after the restore: the wrong snapshot, or the service was still " +
				"writing; roll back with the pre-restore snapshot",
		)
	}
	return err
}

// has looks for the marker in the answer's text, whatever shape it has.
func (m memories) has(ctx context.Context, marker string) (bool, error) {
	status, answer, err := m.exchange(ctx, http.MethodGet, "/memory?project="+drillProject, "")
	if err != nil {
		return false, err
	}
	if status/100 != 2 {
		return false, fmt.Errorf("GET /memory: status %d: %.200s", status, answer)
	}
	return strings.Contains(string(answer), marker), nil
}

func (m memories) exchange(ctx context.Context, method, path, body string) (int, []byte, error) {
	const patience = 30 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return exchange(ctx, method, m.url+path, body)
}
