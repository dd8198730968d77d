package scheduler

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestReplace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setClock("2026-04-07T05:00:00Z")
		slow := func(context.Context, Slot) error { time.Sleep(3 * time.Hour); return nil }
		s, stop := w.start(w.job("daily", "0 6 * * *", nil, slow), w.job("scrub", "0 6 * * *", nil, slow))
		wait(2 * time.Hour)
		// At 07:00: 06:30 would have been missed, but nobody had asked for it.
		if err := s.Replace([]Job{w.job("daily", "30 6,10 * * *", nil, slow)}); err != nil {
			t.Fatal(err)
		}
		wait(time.Minute)
		status := s.Status()
		if len(status) != 1 || !status[0].Running || !status[0].Next.Equal(at(t, "2026-04-07T10:30:00Z")) {
			t.Errorf("status %+v", status)
		}
		// Back again while its run goes on: it must not overlap with itself.
		if err := s.Replace([]Job{w.job("daily", "30 6,10 * * *", nil, slow), w.job("scrub", "30 7 * * *", nil,
			slow)}); err != nil {
			t.Fatal(err)
		}
		wait(89 * time.Minute)
		w.wantRuns("scrub", "2026-04-07T06:00:00Z")
		wait(6 * time.Hour)
		w.wantRuns("daily", "2026-04-07T06:00:00Z", "2026-04-07T10:30:00Z")
		w.wantRuns("scrub", "2026-04-07T06:00:00Z", "2026-04-07T07:30:00Z")
		for _, end := range w.told(Finished) {
			if end.Outcome != OK {
				t.Errorf("told %+v", end)
			}
		}
		if err := s.Replace([]Job{{Name: "daily"}}); err == nil || len(s.Status()) != 2 {
			t.Errorf("bad jobs replaced good ones: %v", err)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	run := func(context.Context, Slot) error { return nil }
	for why, jobs := range map[string][]Job{
		"no name":     {{Run: run}},
		"no run":      {{Name: "a"}},
		"twice":       {{Name: "a", Run: run}, {Name: "a", Run: run}},
		"no such job": {{Name: "a", Run: run, Covers: []string{"b"}}},
		"each other":  {{Name: "a", Run: run, Covers: []string{"b"}}, {Name: "b", Run: run, Covers: []string{"a"}}},
		"twice removed, and not once": {
			{Name: "a", Run: run, Covers: []string{"b"}}, {Name: "b", Run: run, Covers: []string{"c"}},
			{Name: "c", Run: run},
		},
		"itself": {{Name: "a", Run: run, Covers: []string{"a"}}},
	} {
		if _, err := New(newMemory(), jobs, Options{}); err == nil {
			t.Errorf("%s was accepted", why)
		}
	}
}

// replace puts jobs in the place of others and lets the loop see them.
func replace(t *testing.T, s *Scheduler, jobs ...Job) {
	t.Helper()
	if err := s.Replace(jobs); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

func TestReplaceAfterClockSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setClock("2026-04-07T05:00:00Z")
		s, stop := w.start(w.job("daily", "0 6 * * *", nil, nil))
		wait(61 * time.Minute)
		w.step(-time.Hour)
		replace(t, s, w.job("daily", "0 6,12 * * *", nil, nil))
		wait(8 * time.Hour)
		w.wantRuns("daily", "2026-04-07T06:00:00Z", "2026-04-07T12:00:00Z")
		stop()
	})
}

// A slot that waits is not lost with its expression, and what was recorded
// since is not taken back when it runs.
func TestReplaceWhileASlotWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setClock("2026-04-07T05:00:00Z")
		jobs := func(expr string) []Job {
			slow := w.job("drill", "30 5 * * *", nil, func(context.Context, Slot) error {
				time.Sleep(4 * time.Hour)
				return nil
			})
			daily := w.job("daily", expr, nil, nil)
			slow.Group, daily.Group = "snapshots", "snapshots"
			return []Job{slow, daily}
		}
		s, stop := w.start(jobs("0 6 * * *")...)
		wait(2 * time.Hour)
		replace(t, s, jobs("30 6 * * *")...)
		wait(4 * time.Hour)
		w.wantRuns("daily", "2026-04-07T06:00:00Z")
		if served := w.store.record("daily"); !served.Equal(at(t, "2026-04-07T07:00:00Z")) {
			t.Errorf("recorded %v", served)
		}
		stop()
	})
}

func TestReplaceTurnsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setClock("2026-04-07T05:00:00Z")
		slow := func(context.Context, Slot) error { time.Sleep(3 * time.Hour); return nil }
		s, stop := w.start(w.job("daily", "0 6,7 * * *", nil, slow))
		wait(150 * time.Minute) // 06:00 runs, 07:00 waits
		replace(t, s, w.job("daily", "", nil, slow))
		wait(48 * time.Hour)
		w.wantRuns("daily", "2026-04-07T06:00:00Z")
		if status := s.Status()[0]; !status.Next.IsZero() || !status.Waiting.IsZero() || status.Expr != "" {
			t.Errorf("status %+v", status)
		}
		stop()
	})
}

func TestReplaceTellsOfWhatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setClock("2026-04-07T05:00:00Z")
		job := w.job("daily", "0 6 * * *", nil, func(context.Context, Slot) error { return errBroken })
		job.Retries = 3
		s, stop := w.start(job)
		wait(61*time.Minute + 30*time.Second) // it waits for its next attempt
		replace(t, s)
		if end := w.told(Finished); len(end) != 1 || end[0].Outcome != Failed {
			t.Errorf("told %+v", end)
		}
		stop()
	})
}

// A hung run keeps its job from starting also when the job went and came back.
func TestReplaceKeepsAHungRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setClock("2026-04-07T05:00:00Z")
		release := make(chan struct{})
		job := w.job("daily", "0 6 * * *", nil, func(context.Context, Slot) error { <-release; return nil })
		job.Timeout = time.Hour
		s, stop := w.start(job)
		wait(3 * time.Hour)
		replace(t, s)
		replace(t, s, job)
		wait(24 * time.Hour)
		w.wantRuns("daily", "2026-04-07T06:00:00Z")
		if status := s.Status()[0]; !status.Stuck {
			t.Errorf("status %+v", status)
		}
		close(release)
		wait(time.Minute)
		w.wantRuns("daily", "2026-04-07T06:00:00Z", "2026-04-08T06:00:00Z")
		stop()
	})
}
