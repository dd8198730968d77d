package app

import (
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/health"
)

func TestForecast(t *testing.T) {
	const gib = 1 << 30
	day := func(n float64) time.Time { return time.Unix(0, 0).Add(time.Duration(n * float64(24*time.Hour))) }
	steady := func(days int, change int64) (samples []freeSample) {
		for n := range days {
			samples = append(samples, freeSample{day(float64(n)), 100*gib + int64(n)*change})
		}
		return samples
	}
	with := func(samples []freeSample, at int, free int64) []freeSample {
		samples[at].free = free
		return samples
	}
	burst := []freeSample{{day(0), 9 * gib}, {day(0.01), 8 * gib}, {day(0.02), 7 * gib}, {day(0.03), 6 * gib}}
	for name, c := range map[string]struct {
		samples    []freeSample
		free, keep int64
		growth     int64 // -1: unknown
		days       int   // -1: none
	}{
		"nothing known":             {nil, 10 * gib, gib, -1, -1},
		"three samples":             {steady(3, -gib), 10 * gib, gib, -1, -1},
		"all of one hour":           {burst, 10 * gib, gib, -1, -1},
		"a GiB a day":               {steady(30, -gib), 10 * gib, gib, gib, 9},
		"min_free is gone":          {steady(30, -gib), gib, 2 * gib, gib, 0},
		"it empties":                {steady(30, gib), 10 * gib, gib, -gib, -1},
		"it stays":                  {steady(30, 0), 10 * gib, gib, 0, -1},
		"not within years":          {steady(30, -1000), 10 * gib, gib, 1000, -1},
		"a film came and went":      {with(steady(30, -gib), 15, 20*gib), 10 * gib, gib, gib, 9},
		"half of it deleted lately": {with(with(steady(30, -gib), 28, 150*gib), 29, 149*gib), 10 * gib, gib, gib, 9},
		"twice at one time":         {append(steady(30, -gib), freeSample{day(29), 71 * gib}), 10 * gib, gib, gib, 9},
	} {
		growth, days := forecast(c.samples, c.free, c.keep)
		if c.growth == -1 && growth != nil || c.growth != -1 && (growth == nil || *growth != c.growth) {
			t.Errorf("%s: growth %v, want %d", name, growth, c.growth)
		}
		if c.days == -1 && days != nil || c.days != -1 && (days == nil || *days != c.days) {
			t.Errorf("%s: days %v, want %d", name, days, c.days)
		}
	}
}

// Each prune notes what is free, and status makes something of it.
func TestSpaceInStatus(t *testing.T) {
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	h.backup(a)
	if _, err := a.Prune(t.Context(), time.Now(), false, false); err != nil {
		t.Fatal(err)
	}
	run, _, err := a.history.LastRun(t.Context(), "prune")
	if err != nil || health.DetailOf(run).Free <= 0 {
		t.Fatalf("%s, %v", run.Detail, err)
	}
	status, err := a.Status(t.Context(), time.Now())
	if err != nil || status.Space == nil || status.Space.Free <= 0 || status.Space.MinFree != 1<<20 ||
		status.Space.GrowthPerDay != nil {
		t.Errorf("%+v, %v", status.Space, err)
	}
}
