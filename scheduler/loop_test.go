package scheduler

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestFirstStartMissesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setClock("2026-04-07T09:00:00Z")
		_, stop := w.start(w.job("daily", "0 6 * * *", nil, nil))
		wait(time.Hour)
		w.wantRuns("daily")
		if !w.store.record("daily").Equal(at(t, "2026-04-07T09:00:00Z")) {
			t.Errorf("the start was not recorded: %v", w.store.record("daily"))
		}
		wait(21 * time.Hour)
		w.wantRuns("daily", "2026-04-08T06:00:00Z")
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if w.beats < 22*60*2 {
			t.Errorf("%d beats in 22 hours", w.beats)
		}
	})
}

// A catch-up after each way of losing time.
func TestCatchUp(t *testing.T) {
	for name, lose := range map[string]func(w *world, restart func()){
		"downtime":          func(w *world, restart func()) { restart() },
		"suspend":           func(w *world, _ func()) { w.step(75 * time.Hour) },
		"clock set forward": func(w *world, _ func()) { w.step(75 * time.Hour) },
		"suspended and down": func(w *world, restart func()) {
			w.step(3 * time.Hour)
			restart()
			w.step(-3 * time.Hour)
		},
	} {
		for _, catchUp := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/%v", name, catchUp), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					w.setClock("2026-04-07T05:00:00Z")
					job := w.job("daily", "0 6 * * *", nil, nil)
					job.NoCatchUp = !catchUp
					_, stop := w.start(job)
					wait(2 * time.Hour) // Tuesday's slot runs
					lose(w, func() {
						stop()
						time.Sleep(75 * time.Hour)
						_, stop = w.start(job)
					})
					wait(time.Minute) // Friday, 10:00
					want := []string{"2026-04-07T06:00:00Z"}
					missed := []string{"08", "09"}
					if catchUp {
						want = append(want, "2026-04-10T06:00:00Z")
					} else {
						missed = append(missed, "10")
					}
					w.wantRuns("daily", want...)
					var got []string
					for _, slot := range w.store.gone("daily") {
						got = append(got, slot.UTC().Format("02"))
					}
					if strings.Join(got, " ") != strings.Join(missed, " ") {
						t.Errorf("missed %v, want %v", got, missed)
					}
					wait(24 * time.Hour)
					w.wantRuns("daily", append(want, "2026-04-11T06:00:00Z")...)
					stop()
				})
			})
		}
	}
}

func TestClockSetBack(t *testing.T) {
	for _, back := range []time.Duration{time.Minute, time.Hour, 26 * time.Hour, 6 * 24 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.setClock("2026-04-07T05:00:00Z")
			_, stop := w.start(w.job("daily", "0 6 * * *", nil, nil))
			wait(61 * time.Minute)
			w.step(-back)
			wait(back)
			w.wantRuns("daily", "2026-04-07T06:00:00Z")
			stop()
			_, stop = w.start(w.job("daily", "0 6 * * *", nil, nil))
			wait(24 * time.Hour)
			w.wantRuns("daily", "2026-04-07T06:00:00Z", "2026-04-08T06:00:00Z")
			stop()
		})
	}
}

// A clock that was years ahead must not silence the backups for years.
func TestClockWasWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setClock("2038-04-07T05:00:00Z")
		job := w.job("daily", "0 6 * * *", nil, nil)
		_, stop := w.start(job)
		wait(2 * time.Hour)
		w.setClock("2026-04-07T05:00:00Z")
		wait(2 * time.Hour)
		w.wantRuns("daily", "2038-04-07T06:00:00Z", "2026-04-07T06:00:00Z")
		stop()
		_, stop = w.start(job) // the Store has forgotten 2038
		wait(24 * time.Hour)
		w.wantRuns("daily", "2038-04-07T06:00:00Z", "2026-04-07T06:00:00Z", "2026-04-08T06:00:00Z")
		if n := len(w.told(ClockBack)); n != 1 {
			t.Errorf("it was told %d times", n)
		}
		stop()
	})
}

// Just beyond the bound the first slots lie within it again.
func TestClockWasAWeekWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setClock("2026-04-07T05:00:00Z")
		job := w.job("daily", "0 6 * * *", nil, nil)
		_, stop := w.start(job)
		wait(61 * time.Minute)
		w.setClock("2026-03-31T04:00:00Z")
		wait(3 * time.Hour)
		stop()
		_, stop = w.start(job)
		wait(24 * time.Hour)
		w.wantRuns("daily", "2026-04-07T06:00:00Z", "2026-03-31T06:00:00Z", "2026-04-01T06:00:00Z")
		stop()
	})
}

// A machine without a battery starts in 1970 and is put right a little later.
func TestClockStartsInThePast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setClock("2026-04-07T05:00:00Z")
		job := w.job("daily", "0 6 * * *", nil, nil)
		_, stop := w.start(job)
		wait(2 * time.Hour)
		stop()
		w.setClock("1970-01-01T00:00:10Z")
		_, stop = w.start(job)
		wait(5 * time.Minute)
		w.setClock("2026-04-07T08:00:00Z")
		wait(23 * time.Hour)
		w.wantRuns("daily", "2026-04-07T06:00:00Z", "2026-04-08T06:00:00Z")
		stop()
	})
}

func TestServedBeforeTheRunStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setClock("2026-04-07T05:00:00Z")
		slot := at(t, "2026-04-07T06:00:00Z")
		ran := 0
		job := w.job("daily", "0 6 * * *", nil, func(context.Context, Slot) error {
			ran++
			if served := w.store.record("daily"); !served.Equal(slot) {
				t.Errorf("it runs and %v is recorded", served)
			}
			return nil
		})
		_, stop := w.start(job)
		wait(90 * time.Minute)
		stop()
		// The process dies between the record and the run: the slot is gone.
		w.store.setRecord("daily", at(t, "2026-04-08T06:00:00Z"))
		time.Sleep(23*time.Hour + 30*time.Minute)
		_, stop = w.start(job)
		wait(time.Hour)
		stop()
		if ran != 1 {
			t.Errorf("it ran %d times", ran)
		}
	})
}

func TestNoOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setClock("2026-04-07T05:00:00Z")
		first := true
		_, stop := w.start(w.job("hourly", "0 * * * *", nil, func(context.Context, Slot) error {
			if first {
				first = false
				time.Sleep(150 * time.Minute)
			}
			return nil
		}))
		wait(121 * time.Minute) // 06:00 runs until 08:30, 07:00 has come
		w.wantRuns("hourly", "2026-04-07T06:00:00Z")
		wait(2 * time.Hour) // 08:00 has taken the place of 07:00
		w.wantRuns("hourly", "2026-04-07T06:00:00Z", "2026-04-07T08:00:00Z", "2026-04-07T09:00:00Z")
		if missed := w.store.gone("hourly"); len(missed) != 1 || !missed[0].Equal(at(t, "2026-04-07T07:00:00Z")) {
			t.Errorf("missed %v", missed)
		}
		stop()
	})
}

func TestGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setClock("2026-04-07T05:00:00Z")
		slow := func(context.Context, Slot) error { time.Sleep(4 * time.Hour); return nil }
		scrub := w.job("scrub", "50 5 * * *", nil, slow)
		daily := w.job("daily", "0 6 * * *", nil, slow)
		drill := w.job("drill", "30 6 * * *", nil, nil)
		daily.Group, drill.Group = "snapshots", "snapshots"
		s, stop := w.start(drill, daily, scrub)
		wait(2 * time.Hour)
		w.wantRuns("scrub", "2026-04-07T05:50:00Z")
		w.wantRuns("daily", "2026-04-07T06:00:00Z") // the scrub does not delay it
		w.wantRuns("drill")                         // but the daily one does this
		if status := s.Status()[0]; !status.Waiting.Equal(at(t, "2026-04-07T06:30:00Z")) || status.Running {
			t.Errorf("drill: %+v", status)
		}
		wait(4 * time.Hour)
		w.wantRuns("drill", "2026-04-07T06:30:00Z")
		stop()
	})
}

func TestRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setClock("2026-04-07T05:00:00Z")
		job := w.job("daily", "0 6 * * *", nil, func(_ context.Context, slot Slot) error {
			if slot.At.Day() == 7 || slot.Attempt < 3 {
				return errBroken
			}
			return nil
		})
		job.Retries = 3
		_, stop := w.start(job)
		wait(24 * time.Hour)
		slot := "2026-04-07T06:00:00Z"
		w.wantRuns("daily", slot, slot, slot, slot)
		_, started := w.attempts()
		for i, minute := range []int{0, 1, 6, 21} {
			if want := at(t, slot).Add(time.Duration(minute) * time.Minute); !started[i].Equal(want) {
				t.Errorf("attempt %d at %v, want %v", i+1, started[i], want)
			}
		}
		end := w.told(Finished)
		if len(end) != 1 || end[0].Outcome != Failed || !errors.Is(end[0].Err, errBroken) || end[0].Slot.Attempt != 4 {
			t.Errorf("reported %+v", end)
		}
		wait(24 * time.Hour)
		end = w.told(Finished)
		if len(end) != 2 || end[1].Outcome != OK || end[1].Slot.Attempt != 3 {
			t.Errorf("reported %+v", end)
		}
		if n := len(w.told(Retrying)); n != 3+2 {
			t.Errorf("%d retries told", n)
		}
		stop()
	})
}

func TestNewerSlotEndsRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setClock("2026-04-07T05:55:00Z")
		job := w.job("quick", "*/10 6 * * *", nil, func(context.Context, Slot) error { return errBroken })
		job.Retries = 3
		_, stop := w.start(job)
		wait(930 * time.Second) // 06:00 was tried at 0, 1 and 6; 06:10 ends that, and is the last attempt
		w.wantRuns("quick", "2026-04-07T06:00:00Z", "2026-04-07T06:00:00Z", "2026-04-07T06:00:00Z",
			"2026-04-07T06:10:00Z")
		end := w.told(Finished)
		if len(end) != 2 || end[0].Outcome != Failed || end[0].Slot.Attempt != 3 || end[1].Slot.Attempt != 4 {
			t.Errorf("reported %+v", end)
		}
		stop()
	})
}

// A run that fails while the next slot waits already is told, too.
func TestNewerSlotWhileItFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setClock("2026-04-07T05:00:00Z")
		job := w.job("hourly", "0 6,7 * * *", nil, func(_ context.Context, slot Slot) error {
			if slot.At.Hour() == 6 {
				time.Sleep(70 * time.Minute)
				return errBroken
			}
			return nil
		})
		job.Retries = 3
		_, stop := w.start(job)
		wait(4 * time.Hour)
		w.wantRuns("hourly", "2026-04-07T06:00:00Z", "2026-04-07T07:00:00Z")
		if end := w.told(Finished); len(end) != 2 || end[0].Outcome != Failed || end[1].Outcome != OK {
			t.Errorf("told %+v", end)
		}
		stop()
	})
}

func TestRetryPauseIsWallClock(t *testing.T) {
	for name, shift := range map[string]time.Duration{"suspended": 4 * time.Minute, "set back": -5 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.setClock("2026-04-07T05:59:00Z")
				job := w.job("daily", "0 6 * * *", nil, func(context.Context, Slot) error { return errBroken })
				job.Retries = 2
				job.Pause = func(int) time.Duration { return 5 * time.Minute }
				_, stop := w.start(job)
				wait(61 * time.Second)
				w.step(shift)
				wait(90 * time.Second)
				if want := map[bool]int{true: 2, false: 1}[shift > 0]; len(w.runs("daily")) != want {
					t.Errorf("%d attempts, want %d", len(w.runs("daily")), want)
				}
				wait(5 * time.Minute)
				if len(w.runs("daily")) < 2 {
					t.Error("the pause was stretched")
				}
				stop()
			})
		})
	}
}

func TestNotRetried(t *testing.T) {
	for name, row := range map[string]struct {
		err  error
		want Outcome
	}{
		"skipped":   {fmt.Errorf("a restore is under way: %w", ErrSkipped), Skipped},
		"permanent": {errBroken, Failed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.setClock("2026-04-07T05:00:00Z")
				job := w.job("daily", "0 6 * * *", nil, func(context.Context, Slot) error { return row.err })
				job.Retries = 3
				job.Retryable = func(err error, _ int) bool { return !errors.Is(err, errBroken) }
				s, stop := w.start(job)
				wait(12 * time.Hour)
				w.wantRuns("daily", "2026-04-07T06:00:00Z")
				if last := s.Status()[0].Last; last == nil || last.Outcome != row.want {
					t.Errorf("last: %+v", last)
				}
				stop()
			})
		})
	}
}

// What fails each time has failed after its retries also where the slots lie
// closer together than these, whether the newer slot comes during the pause or
// during the run.
func TestRetriesCountOverCloseSlots(t *testing.T) {
	for name, takes := range map[string]time.Duration{"in the pause": 0, "while it runs": 50 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.setClock("2026-04-07T05:00:00Z")
				job := w.job("daily", "@every 30s", nil, func(context.Context, Slot) error {
					time.Sleep(takes)
					return errBroken
				})
				job.Retries = 3
				job.Retryable = func(err error, attempt int) bool { return attempt == 1 }
				_, stop := w.start(job)
				wait(10 * time.Minute)
				ran, _ := w.attempts()
				if len(ran) < 8 {
					t.Fatalf("ran %+v", ran)
				}
				for i, slot := range ran {
					if want := 1 + i%2; slot.Attempt != want {
						t.Errorf("run %d is attempt %d, want %d", i, slot.Attempt, want)
					}
				}
				stop()
			})
		})
	}
}

func TestPanicIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setClock("2026-04-07T05:00:00Z")
		_, stop := w.start(w.job("daily", "0 6 * * *", nil,
			func(context.Context, Slot) error { panic("index out of range") }))
		wait(26 * time.Hour)
		end := w.told(Finished)
		if len(end) != 2 || end[0].Outcome != Failed || !strings.Contains(end[0].Err.Error(), "index out of range") {
			t.Errorf("reported %+v", end)
		}
		stop()
	})
}

func TestHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setClock("2026-04-07T05:00:00Z")
		release := make(chan struct{})
		hangs := w.job("daily", "0 6 * * *", nil, func(ctx context.Context, slot Slot) error {
			if slot.At.Day() == 7 {
				<-release // deaf to its context
				return ctx.Err()
			}
			return nil
		})
		hangs.Timeout, hangs.Group, hangs.Retries = time.Hour, "snapshots", 3
		other := w.job("weekly", "30 6 * * *", nil, nil)
		other.Group = "snapshots"
		s, stop := w.start(hangs, other)
		wait(3 * time.Hour)
		if stuck := w.told(Stuck); len(stuck) != 1 || !errors.Is(stuck[0].Err, ErrTimeout) {
			t.Errorf("told %+v", stuck)
		}
		if status := s.Status()[0]; !status.Stuck || !status.Running {
			t.Errorf("status %+v", status)
		}
		w.wantRuns("weekly", "2026-04-07T06:30:00Z") // it does not stop the others
		wait(48 * time.Hour)
		w.wantRuns("daily", "2026-04-07T06:00:00Z") // and is not started again
		close(release)
		wait(time.Minute)
		w.wantRuns("daily", "2026-04-07T06:00:00Z", "2026-04-09T06:00:00Z")
		if end := w.told(Finished); end[len(end)-2].Outcome != TimedOut || end[len(end)-1].Outcome != OK {
			t.Errorf("told %+v", end[len(end)-2:])
		}
		stop()
	})
}

func TestTimeoutIsReportedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setClock("2026-04-07T05:00:00Z")
		job := w.job("daily", "0 6 * * *", nil, func(ctx context.Context, _ Slot) error {
			<-ctx.Done()
			return ctx.Err()
		})
		job.Timeout, job.Retries = time.Hour, 3
		_, stop := w.start(job)
		wait(2*time.Hour + time.Second)
		end := w.told(Finished)
		if len(end) != 1 || end[0].Outcome != TimedOut ||
			!strings.Contains(end[0].Err.Error(), "ran too long: over 1h0m0s") {
			t.Errorf("told %+v", end)
		}
		stop()
	})
}

func TestStoreFailureStopsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setClock("2026-04-07T05:00:00Z")
		w.store.setFail(errBroken)
		_, stop := w.start(w.job("daily", "0 6 * * *", nil, nil))
		wait(26 * time.Hour)
		w.wantRuns("daily", "2026-04-07T06:00:00Z", "2026-04-08T06:00:00Z")
		if len(w.told(StoreError)) == 0 {
			t.Error("nobody was told")
		}
		w.store.setFail(nil)
		wait(time.Minute)
		if served := w.store.record("daily"); !served.Equal(at(t, "2026-04-08T06:00:00Z")) {
			t.Errorf("what ran meanwhile is recorded as %v", served)
		}
		wait(24 * time.Hour)
		w.wantRuns("daily", "2026-04-07T06:00:00Z", "2026-04-08T06:00:00Z", "2026-04-09T06:00:00Z")
		if !w.store.record("daily").Equal(at(t, "2026-04-09T06:00:00Z")) {
			t.Errorf("recorded %v", w.store.record("daily"))
		}
		stop()
	})
}

func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setClock("2026-04-07T05:00:00Z")
		release := make(chan struct{})
		polite := w.job("polite", "0 6 * * *", nil, func(ctx context.Context, _ Slot) error {
			<-ctx.Done()
			time.Sleep(10 * time.Second) // to a safe point
			return ctx.Err()
		})
		polite.Retries = 3
		deaf := w.job("deaf", "0 6 * * *", nil, func(context.Context, Slot) error { <-release; return nil })
		_, stop := w.start(polite, deaf)
		wait(90 * time.Minute)
		began := time.Now()
		var still *StillRunning
		if err := stop(); !errors.As(err, &still) || len(still.Jobs) != 1 || still.Jobs[0] != "deaf" {
			t.Errorf("Run gave %v", err)
		}
		if took := time.Since(began); took != time.Minute {
			t.Errorf("it waited %v", took)
		}
		if end := w.told(Finished); len(end) != 1 || end[0].Outcome != Interrupted {
			t.Errorf("told %+v", end)
		}
		close(release)
	})
}
