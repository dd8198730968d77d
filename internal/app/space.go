package app

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/retention"
	"github.com/atocore/atobackupd/snapshot"
)

// space tells how much is free at now and how that has gone.
func (a *App) space(ctx context.Context, now time.Time) *health.SpaceStatus {
	free, err := fsx.Free(a.Config.Backup.Dir)
	if err != nil {
		return nil // it does not exist yet, or its disk is away; the legs tell
	}
	s := &health.SpaceStatus{Free: free, MinFree: a.Config.Backup.MinFree.Bytes()}
	runs, err := a.history.Runs(ctx, "prune", now.Add(-growthWindow), growthSamples)
	a.NoteHistoryError(err)
	samples := []freeSample{{now, free}}
	for _, run := range runs {
		if d := health.DetailOf(run); d.Free > 0 {
			samples = append(samples, freeSample{run.FinishedAt, d.Free})
		}
	}
	s.GrowthPerDay, s.FullInDays = forecast(samples, free, s.MinFree)
	return s
}

// roomHint says how to make room on the disk of the backups, by what has taken it.
func (a *App) roomHint(list []snapshot.Snapshot) string {
	dir := a.Config.Backup.Dir
	size, err := fsx.Size(dir)
	free, freeErr := fsx.Free(dir)
	if err != nil || freeErr != nil {
		return "see how full it is: df -h " + dir
	}
	var ours int64
	for _, s := range list {
		ours += s.Bytes
	}
	switch {
	case a.Config.Backup.MinFree.Bytes() >= size:
		return fmt.Sprintf("backup.min_free is more than the whole disk has (%d MiB): lower it, and then: "+
			"atobackupd config check", size>>20)
	case ours*2 >= size-free:
		return "keep fewer snapshots: lower the counts of [retention], see what that deletes: " +
			"`atobackupd prune --dry-run`, and then: atobackupd prune"
	}
	return "snapshots take little of it: see what takes the most, and remove or move that: `du -xhd1 " +
		mountOf(dir) + " | sort -h`"
}

// mountOf returns the topmost directory above dir that lies on the same disk.
func mountOf(dir string) string {
	device := func(path string) (uint64, bool) {
		info, err := os.Stat(path)
		if err != nil {
			return 0, false
		}
		s, ok := info.Sys().(*syscall.Stat_t)
		return uint64(s.Dev), ok
	}
	own, known := device(dir)
	for known && dir != "/" {
		above := filepath.Dir(dir)
		if on, ok := device(above); !ok || on != own {
			break
		}
		dir = above
	}
	return dir
}

// freeSample is how many bytes were free on the disk after a prune, which is
// when it is emptiest.
type freeSample struct {
	at   time.Time
	free int64
}

// How a forecast is made.
const (
	growthWindow  = 60 * retention.Day // samples that are older say nothing about now
	growthSamples = 100
	growthFewest  = 4                 // samples
	growthSpan    = 3 * retention.Day // that they span at least
	tooFar        = 10 * 365          // days
)

// forecast returns the bytes by which a disk fills a day, and in how many days
// only keep bytes of the free ones are left. It takes the median of the slopes
// between all pairs of samples (Theil and Sen): that somebody deleted a film, or
// put one there, moves a mean for weeks and a median hardly at all.
func forecast(samples []freeSample, free, keep int64) (perDay *int64, days *int) {
	if len(samples) < growthFewest {
		return nil, nil
	}
	oldest := slices.MinFunc(samples, func(a, b freeSample) int { return a.at.Compare(b.at) })
	newest := slices.MaxFunc(samples, func(a, b freeSample) int { return a.at.Compare(b.at) })
	if newest.at.Sub(oldest.at) < growthSpan {
		return nil, nil
	}
	var slopes []float64
	for i, a := range samples {
		for _, b := range samples[:i] {
			if apart := a.at.Sub(b.at).Hours() / 24; math.Abs(apart) > 0.1 {
				slopes = append(slopes, float64(b.free-a.free)/apart)
			}
		}
	}
	slices.Sort(slopes)
	growth := (slopes[(len(slopes)-1)/2] + slopes[len(slopes)/2]) / 2
	bytes := int64(growth)
	if left := math.Max(0, float64(free-keep)) / growth; growth >= 1 && left < tooFar {
		whole := int(left)
		days = &whole
	}
	return &bytes, days
}
