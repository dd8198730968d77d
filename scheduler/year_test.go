package scheduler

import (
	"fmt"
	"slices"
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

// theYear names, for four zones, the times of day that their clocks skip or
// repeat, and some that they do not.
var theYear = []struct {
	zone  string
	times []clockTime
	hours int // whole hours that the clock shows in the year
}{
	{"UTC", []clockTime{{6, 0}}, 8760},
	{"Europe/Berlin", []clockTime{{2, 30}, {3, 0}}, 8760},
	{"America/New_York", []clockTime{{1, 30}, {2, 30}}, 8760},
	{"Australia/Lord_Howe", []clockTime{{1, 45}, {2, 15}}, 8759},
}

// The year 2026, calm and hard: each slot of daily and weekly jobs runs exactly
// once, or is one that the trouble swallowed and is recorded as missed. What
// the slots are is worked out minute by minute, by other means. An hourly job
// runs beside them in each zone.
func TestYear(t *testing.T) {
	for _, hard := range []bool{false, true} {
		name := map[bool]string{false: "calm", true: "hard"}[hard]
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { liveAndAudit(t, hard) }) })
	}
}

func liveAndAudit(t *testing.T, hard bool) {
	w := newWorld(t)
	time.Sleep(time.Until(at(t, "2025-12-31T00:00:00Z")))
	w.live(func() (jobs []Job) {
		for _, row := range theYear {
			loc := zone(t, row.zone)
			for _, when := range row.times {
				jobs = append(jobs, w.job(when.job("daily", row.zone), when.expr()+" * * *", loc, nil),
					w.job(when.job("weekly", row.zone), when.expr()+" * * 0", loc, nil))
			}
			jobs = append(jobs, w.job("hourly "+row.zone, "0 * * * *", loc, nil))
		}
		return jobs
	}, hard)
	t.Logf("%-34s %5s %5s %6s %6s %6s", "job", "slots", "ran", "caught", "missed", "twice")
	for _, row := range theYear {
		begin := time.Date(2026, 1, 1, 0, 0, 0, 0, zone(t, row.zone))
		for _, when := range row.times {
			slots := slotsOf(begin, when)
			w.audit(when.job("daily", row.zone), hard, slots)
			w.audit(when.job("weekly", row.zone), hard,
				slices.DeleteFunc(slots, func(t time.Time) bool { return t.Weekday() != time.Sunday }))
		}
		if n := w.hours("hourly "+row.zone, begin); !hard && n != row.hours {
			t.Errorf("%s: %d hourly runs, want %d", row.zone, n, row.hours)
		}
	}
}

// clockTime is a time of day.
type clockTime struct{ hour, minute int }

func (c clockTime) expr() string { return fmt.Sprintf("%d %d", c.minute, c.hour) }

func (c clockTime) job(kind, zone string) string {
	return fmt.Sprintf("%s %02d:%02d %s", kind, c.hour, c.minute, zone)
}

// hours counts the runs of the hourly job and checks their distances: it runs
// through both changes, at every whole hour that the clock shows.
func (w *world) hours(job string, begin time.Time) (count int) {
	last := begin.Add(-time.Hour)
	for _, slot := range w.ran {
		if slot.Job != job || slot.At.Year() != begin.Year() {
			continue
		}
		if gap := slot.At.Sub(last); gap < time.Minute || gap > 90*time.Minute && len(w.store.gone(job)) == 0 {
			w.t.Errorf("%s: %v came %v after the one before", job, slot.At, gap)
		}
		last = slot.At
		count++
	}
	return count
}

// slotsOf looks at every minute of the year: a day's slot is the first at which
// the clock shows the wanted time of that day or a later one.
func slotsOf(begin time.Time, want clockTime) (slots []time.Time) {
	day := 0
	for t := begin; t.Year() == begin.Year(); t = t.Add(time.Minute) {
		if t.YearDay() > day && (t.Hour() > want.hour || t.Hour() == want.hour && t.Minute() >= want.minute) {
			slots = append(slots, t)
			day = t.YearDay()
		}
	}
	return slots
}

// live lets the year pass.
func (w *world) live(jobs func() []Job, hard bool) {
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
	until(at(w.t, "2027-01-01T12:00:00Z"))
	if err := stop(); err != nil {
		w.t.Error(err)
	}
}

// audit compares what a job did with its slots.
func (w *world) audit(job string, hard bool, slots []time.Time) {
	ran := map[int64]int{}
	caught, missed, twice := 0, 0, 0
	for i, slot := range w.ran {
		if slot.Job != job || slot.At.Year() != slots[0].Year() {
			continue
		}
		ran[slot.At.Unix()]++
		if w.at[i].Sub(slot.At) > onTime {
			caught++
		}
	}
	recorded := map[int64]bool{}
	for _, slot := range w.store.gone(job) {
		recorded[slot.Unix()] = true
	}
	for _, slot := range slots {
		n, gone := ran[slot.Unix()], recorded[slot.Unix()]
		switch {
		case n > 1:
			twice++
			w.t.Errorf("%s: %v ran %d times", job, slot, n)
		case n == 1 && gone:
			w.t.Errorf("%s: %v ran and is recorded as missed", job, slot)
		case n == 0 && !gone:
			w.t.Errorf("%s: %v is lost", job, slot)
		case n == 0 && !hard:
			w.t.Errorf("%s: %v was missed in a calm year", job, slot)
		case n == 0:
			missed++
		}
		delete(ran, slot.Unix())
	}
	for other := range ran {
		w.t.Errorf("%s: ran at %v, which is no slot", job, time.Unix(other, 0))
	}
	w.t.Logf("%-34s %5d %5d %6d %6d %6d", job, len(slots), len(slots)-missed, caught, missed, twice)
}
