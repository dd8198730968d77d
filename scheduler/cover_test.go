package scheduler

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// snapshots are the two jobs that the daemon couples: a weekly snapshot holds
// all that a daily one does.
func (w *world) snapshots(weekly func(context.Context, Slot) error) []Job {
	d := w.job("daily", "0 6 * * *", nil, nil)
	k := w.job("weekly", "0 6 * * 0", nil, weekly)
	d.Group, k.Group = "snapshots", "snapshots"
	k.Covers = []string{"daily"}
	return []Job{d, k}
}

func TestWeeklyServesBoth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setClock("2026-04-10T12:00:00Z") // a Friday
		_, stop := w.start(w.snapshots(nil)...)
		wait(3 * 24 * time.Hour)
		w.wantRuns("weekly", "2026-04-12T06:00:00Z")
		w.wantRuns("daily", "2026-04-11T06:00:00Z", "2026-04-13T06:00:00Z")
		if told := w.told(Covered); len(told) != 1 || told[0].By != "weekly" || told[0].Job != "daily" {
			t.Errorf("told %+v", told)
		}
		stop()
	})
}

func TestCatchUpCoalesces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setClock("2026-04-10T12:00:00Z")
		_, stop := w.start(w.snapshots(nil)...)
		stop()
		time.Sleep(5 * 24 * time.Hour)
		_, stop = w.start(w.snapshots(nil)...)
		wait(time.Hour) // Wednesday: Sunday's weekly and Wednesday's daily wait
		w.wantRuns("weekly", "2026-04-12T06:00:00Z")
		w.wantRuns("daily")
		stop()
		_, stop = w.start(w.snapshots(nil)...)
		wait(24 * time.Hour)
		w.wantRuns("weekly", "2026-04-12T06:00:00Z")
		w.wantRuns("daily", "2026-04-16T06:00:00Z")
		stop()
	})
}

// The fullest of all that fall due together serves them all, and those that it
// served run after all when it fails.
func TestMonthlyServesAll(t *testing.T) {
	for _, fails := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.setClock("2026-02-28T12:00:00Z") // 2026-03-01 is a Sunday
			month := w.job("monthly", "0 6 1 * *", nil, func(context.Context, Slot) error {
				if fails {
					return errBroken
				}
				return nil
			})
			month.Group, month.Covers = "snapshots", []string{"daily", "weekly"}
			_, stop := w.start(append(w.snapshots(nil), month)...)
			wait(24 * time.Hour)
			w.wantRuns("monthly", "2026-03-01T06:00:00Z")
			w.wantRuns("daily")
			if fails {
				w.wantRuns("weekly", "2026-03-01T06:00:00Z")
			} else {
				w.wantRuns("weekly")
			}
			stop()
		})
	}
}

// When the weekly snapshot cannot be taken, the daily one is still wanted.
func TestCoveredRunsWhenTheOtherFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setClock("2026-04-11T12:00:00Z")
		jobs := w.snapshots(func(context.Context, Slot) error { return errBroken })
		jobs[1].Retries = 3
		_, stop := w.start(jobs...)
		wait(18*time.Hour + 20*time.Minute)
		w.wantRuns("daily")
		wait(2 * time.Minute)
		w.wantRuns("daily", "2026-04-12T06:00:00Z")
		wait(24 * time.Hour)
		w.wantRuns("daily", "2026-04-12T06:00:00Z", "2026-04-13T06:00:00Z")
		stop()
	})
}

func TestCoveredRunsWhenTheOtherHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setClock("2026-04-11T12:00:00Z")
		release := make(chan struct{})
		jobs := w.snapshots(func(context.Context, Slot) error { <-release; return nil })
		jobs[1].Timeout = time.Hour
		_, stop := w.start(jobs...)
		wait(20 * time.Hour)
		w.wantRuns("daily", "2026-04-12T06:00:00Z")
		close(release)
		stop()
	})
}

func TestTriggerNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setClock("2026-04-07T05:00:00Z")
		fail := true
		job := w.job("sync", "", nil, func(context.Context, Slot) error {
			time.Sleep(time.Minute)
			if fail {
				return errBroken
			}
			return nil
		})
		job.Retries = 1
		job.Pause = func(int) time.Duration { return time.Hour }
		s, stop := w.start(job)
		if err := s.TriggerNow("nobody"); err == nil {
			t.Error("a job that is not there was triggered")
		}
		trigger := func() {
			if err := s.TriggerNow("sync"); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		trigger()
		w.wantRuns("sync", "2026-04-07T05:00:00Z")
		wait(2 * time.Minute) // failed, waits an hour
		fail = false
		trigger() // does not wait any longer
		if ran, _ := w.attempts(); ran[len(ran)-1].Attempt != 2 || !ran[len(ran)-1].Triggered {
			t.Errorf("ran %+v", ran)
		}
		trigger() // while it runs: once more afterwards
		trigger()
		wait(3 * time.Hour)
		if ran, _ := w.attempts(); len(ran) != 3 {
			t.Errorf("ran %+v", ran)
		}
		if served := w.store.record("sync"); !served.IsZero() {
			t.Errorf("a job without slots has %v", served)
		}
		stop()
	})
}

func TestEveryKeepsItsPhaseOverRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setClock("2026-04-07T05:07:00Z")
		_, stop := w.start(w.job("sync", "@every 1h", nil, nil))
		for range 10 { // restarted every 49 minutes it would never run
			wait(49 * time.Minute)
			stop()
			_, stop = w.start(w.job("sync", "@every 1h", nil, nil))
		}
		synctest.Wait()
		got := w.runs("sync")
		if len(got) != 8 || got[0] != "2026-04-07T06:07:00Z" || got[7] != "2026-04-07T13:07:00Z" {
			t.Errorf("ran at %v", got)
		}
		stop()
	})
}
