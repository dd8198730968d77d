package scheduler

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// trouble is a stretch of the year in which the loop did not run as it should.
type trouble struct {
	at   string // UTC
	kind string // down, suspend, forward, back
	long time.Duration
}

// hardYear has trouble around both clock changes of each zone, among others.
var hardYear = []trouble{
	{"2026-01-11T03:00:00Z", "down", 30 * time.Hour},
	{"2026-02-03T12:00:00Z", "suspend", 9 * time.Hour},
	{"2026-02-20T05:59:40Z", "suspend", 2 * time.Minute},
	{"2026-03-08T06:30:00Z", "down", time.Hour},
	{"2026-03-29T00:30:00Z", "suspend", time.Hour},
	{"2026-04-04T14:50:00Z", "down", 30 * time.Minute},
	{"2026-05-01T00:00:00Z", "down", 15 * 24 * time.Hour},
	{"2026-06-10T08:00:00Z", "back", 3 * time.Hour},
	{"2026-07-05T01:00:00Z", "forward", 50 * time.Hour},
	{"2026-08-05T02:31:00Z", "back", 25 * time.Hour},
	{"2026-10-03T15:00:00Z", "suspend", 2 * time.Hour},
	{"2026-10-25T00:40:00Z", "back", 30 * time.Minute},
	{"2026-10-25T08:00:00Z", "down", 48 * time.Hour},
	{"2026-11-01T05:45:00Z", "suspend", 40 * time.Minute},
}

// The year 2026, second by simulated second, in four zones, calm and hard: each
// slot of a daily and of a weekly job in the hour that the clock changes runs
// exactly once, or is one that the trouble swallowed and is recorded as missed.
// What the slots are is worked out minute by minute, by other means.
func TestYear(t *testing.T) {
	t.Logf("%-20s %-5s %-14s %5s %5s %6s %6s %6s", "zone", "year", "job", "slots", "ran", "caught", "missed", "twice")
	for _, row := range []struct {
		zone         string
		hour, minute int
		expr         string
	}{
		{"UTC", 6, 0, "0 6"},
		{"Europe/Berlin", 2, 30, "30 2"},
		{"America/New_York", 1, 30, "30 1"},
		{"America/New_York", 2, 30, "30 2"},
		{"Australia/Lord_Howe", 1, 45, "45 1"},
		{"Australia/Lord_Howe", 2, 15, "15 2"},
	} {
		loc := zone(t, row.zone)
		begin := time.Date(2026, 1, 1, 0, 0, 0, 0, loc)
		end := time.Date(2027, 1, 1, 0, 0, 0, 0, loc)
		slots := slotsOf(begin, end, row.hour, row.minute)
		for _, hard := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				time.Sleep(begin.Add(-time.Second).Sub(time.Now()))
				jobs := func() []Job {
					return []Job{w.job("daily", row.expr+" * * *", loc, nil), w.job("weekly", row.expr+" * * 0", loc, nil)}
				}
				w.live(jobs, end, hard)
				w.audit("daily", row.zone, row.expr, hard, slots)
				var sundays []time.Time
				for _, slot := range slots {
					if slot.Weekday() == time.Sunday {
						sundays = append(sundays, slot)
					}
				}
				w.audit("weekly", row.zone, row.expr, hard, sundays)
			})
		}
	}
}

// slotsOf looks at every minute of the year: a day's slot is the first at which
// the clock shows the wanted time of that day or a later one.
func slotsOf(begin, end time.Time, hour, minute int) (slots []time.Time) {
	day := 0
	for t := begin; t.Before(end); t = t.Add(time.Minute) {
		if t.YearDay() > day && (t.Hour() > hour || t.Hour() == hour && t.Minute() >= minute) {
			slots = append(slots, t)
			day = t.YearDay()
		}
	}
	return slots
}

// live lets the year pass.
func (w *world) live(jobs func() []Job, end time.Time, hard bool) {
	_, stop := w.start(jobs()...)
	until := func(t time.Time) { wait(t.Sub(w.now())) }
	for _, trouble := range hardYear {
		if !hard {
			break
		}
		until(at(w.t, trouble.at))
		switch trouble.kind {
		case "down":
			stop()
			time.Sleep(trouble.long)
			_, stop = w.start(jobs()...)
		case "suspend", "forward":
			w.step(trouble.long)
		case "back":
			w.step(-trouble.long)
		}
	}
	until(end.Add(time.Hour))
	if err := stop(); err != nil {
		w.t.Error(err)
	}
}

// audit compares what a job did with its slots.
func (w *world) audit(job, zone, expr string, hard bool, slots []time.Time) {
	ran := map[int64]int{}
	caught, twice := 0, 0
	for i, slot := range w.ran {
		if slot.Job != job || slot.At.Year() > slots[0].Year() {
			continue
		}
		ran[slot.At.Unix()]++
		if w.at[i].Sub(slot.At) > onTime {
			caught++
		}
	}
	missed := map[int64]bool{}
	for _, slot := range w.store.missed[job] {
		missed[slot.Unix()] = true
	}
	for _, slot := range slots {
		n := ran[slot.Unix()]
		switch {
		case n > 1:
			twice++
			w.t.Errorf("%s %s: %v ran %d times", zone, job, slot, n)
		case n == 1 && missed[slot.Unix()]:
			w.t.Errorf("%s %s: %v ran and is recorded as missed", zone, job, slot)
		case n == 0 && !missed[slot.Unix()]:
			w.t.Errorf("%s %s: %v is lost", zone, job, slot)
		case n == 0 && !hard:
			w.t.Errorf("%s %s: %v was missed in a calm year", zone, job, slot)
		}
		delete(ran, slot.Unix())
	}
	for other := range ran {
		w.t.Errorf("%s %s: ran at %v, which is no slot", zone, job, time.Unix(other, 0))
	}
	year := map[bool]string{false: "calm", true: "hard"}[hard]
	w.t.Logf("%-20s %-5s %-14s %5d %5d %6d %6d %6d", zone, year, job+" "+expr, len(slots), len(slots)-len(missed), caught, len(missed), twice)
}

// Jobs that run each hour, through both changes, at every whole hour shown.
func TestYearOfHours(t *testing.T) {
	for name, want := range map[string]int{"UTC": 8760, "Europe/Berlin": 8760, "America/New_York": 8760, "Australia/Lord_Howe": 8759} {
		loc := zone(t, name)
		begin := time.Date(2026, 1, 1, 0, 0, 0, 0, loc)
		end := time.Date(2027, 1, 1, 0, 0, 0, 0, loc)
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			time.Sleep(begin.Add(-time.Second).Sub(time.Now()))
			count, last := 0, begin.Add(-time.Hour)
			job := w.job("hourly", "0 * * * *", loc, nil)
			job.Run = func(_ context.Context, slot Slot) error {
				if gap := slot.At.Sub(last); gap < 30*time.Minute || gap > 90*time.Minute {
					t.Errorf("%s: %v came %v after the one before", name, slot.At, gap)
				}
				count++
				last = slot.At
				return nil
			}
			_, stop := w.start(job)
			wait(end.Add(-time.Minute).Sub(time.Now()))
			stop()
			if count != want {
				t.Errorf("%s: %d runs, want %d", name, count, want)
			}
		})
	}
}
