package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/atocore/atobackupd/internal/fsx"
)

// Run restores a snapshot: it refuses what is unsafe before anything is touched
// (kind Refused, or Invalid for the snapshot), stages, swaps, and saves what was
// live before as the pre-restore snapshot. With a Service all up to the swap
// happens while it still runs, and what is saved is saved after it was started
// again. On an error the live store is what it was, unless the error says that
// the journal stands. The Result is filled in either way.
//
// A cancelled ctx ends it with everything as it was, up to the first step of
// the swap. The swap itself is carried through, cancelled or not: what is staged
// has been proven, the swap takes a moment, and whole and new is what was asked
// for.
func Run(ctx context.Context, r Request) (res Result, err error) {
	start := time.Now()
	res = newResult(string(r.Stamp), r.Source)
	defer func() { res.close(start, err) }()
	if !r.ConfirmServiceStopped && r.Service == nil && r.To == "" {
		return res, r.refuse(errors.New("restoring under a running service corrupts the database"),
			"stop the service, then add --confirm-service-stopped (or use --manage-service)")
	}
	if r.To == "" {
		if err := r.place().RefusePending(); err != nil {
			return res, err
		}
	} else if err := r.checkTo(); err != nil {
		return res, err
	}
	if r.Dir == "" || r.Dir == r.Store.Path(r.Stamp) {
		hold, err := r.Store.LockShared(r.Stamp)
		if err != nil {
			return res, err
		}
		defer hold.Unlock()
	}
	plan, err := NewPlan(ctx, r)
	if err != nil {
		return res, err
	}
	defer plan.Close()
	res.Warnings = append(res.Warnings, plan.Warnings...)
	if err := plan.Err(); err != nil {
		return res, err
	}
	if r.To != "" {
		err = r.extract(ctx, plan, &res)
		return res, err
	}
	err = r.replace(ctx, plan, &res)
	return res, err
}

// checkTo refuses a scratch directory among what it must not touch.
func (r *Request) checkTo() error {
	to, err := filepath.Abs(r.To)
	if err != nil {
		return err
	}
	if real, err := filepath.EvalSymlinks(fsx.Nearest(to)); err == nil {
		rest, _ := filepath.Rel(fsx.Nearest(to), to)
		to = filepath.Join(real, rest)
	}
	for _, place := range []string{r.Live.Chroma, r.Live.DB, r.Live.Registry, r.Store.Dir(), r.StateDir} {
		if place == "" {
			continue
		}
		if real, err := filepath.EvalSymlinks(place); err == nil {
			place = real
		}
		if rel, err := filepath.Rel(place, to); err == nil && filepath.IsLocal(rel) {
			return r.refuse(
				fmt.Errorf("%s lies in %s, which this program writes itself", r.To, place),
				"name a directory elsewhere",
			)
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
