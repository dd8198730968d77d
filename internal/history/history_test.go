package history

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

var noon = time.Date(2026, 4, 7, 12, 0, 0, 0, time.UTC)

func open(t testing.TB, path string) *DB {
	t.Helper()
	db, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func newHistory(t testing.TB) *DB { return open(t, filepath.Join(t.TempDir(), "history.db")) }

// must fails the test on an error and passes the value on.
func must[T any](t testing.TB) func(value T, err error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func same(t testing.TB, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

// A path may hold what means something in a URL.
func TestOpenMakesFileAndDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state ?#%41", "history.db")
	db := open(t, path)
	check(t, db.LegSucceeded(t.Context(), "snapshot", noon))
	check(t, db.Close())
	for name, want := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700 | fs.ModeDir} {
		info, err := os.Stat(name)
		check(t, err)
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", name, info.Mode(), want)
		}
	}
	entries := must[[]os.DirEntry](t)(os.ReadDir(filepath.Dir(path)))
	if len(entries) != 1 {
		t.Errorf("beside the file lies %v", entries)
	}
	if legs := must[[]Leg](t)(open(t, path).Legs(t.Context())); len(legs) != 1 {
		t.Errorf("read back %v", legs)
	}
}

func TestOpenRefusesWhatIsNoFile(t *testing.T) {
	for _, open := range []func(context.Context, string) (*DB, error){Open, OpenReadOnly} {
		if _, err := open(t.Context(), t.TempDir()); err == nil {
			t.Error("a directory was opened")
		}
	}
	if _, err := OpenReadOnly(t.Context(), filepath.Join(t.TempDir(), "history.db")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file gives %v", err)
	}
}

func TestSlots(t *testing.T) {
	db, ctx := newHistory(t), t.Context()
	if _, known, err := db.Served(ctx, "daily"); known || err != nil {
		t.Fatalf("served before the first start: %v, %v", known, err)
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	check(t, err)
	check(t, db.Serve(ctx, "daily", noon))
	check(t, db.Serve(ctx, "daily", noon.Add(48*time.Hour).In(berlin)))
	check(t, db.Serve(ctx, "daily", noon.Add(24*time.Hour))) // back, after a clock that was wrong
	served, known, err := db.Served(ctx, "daily")
	check(t, err)
	same(t, "served", served, noon.Add(24*time.Hour))
	same(t, "known", known, true)
	first, _, err := db.FirstStart(ctx, "daily")
	check(t, err)
	same(t, "first start", first, noon)

	slots := []time.Time{noon, noon.Add(time.Hour)}
	check(t, db.Missed(ctx, "daily", slots))
	check(t, db.Missed(ctx, "daily", slots)) // again, after a crash
	check(t, db.Missed(ctx, "weekly", slots[:1]))
	same(t, "missed", missedSlots(t, db, "daily", noon), slots)
	same(t, "missed since", missedSlots(t, db, "daily", noon.Add(1)), slots) // stored to the millisecond
	same(t, "missed since", missedSlots(t, db, "daily", noon.Add(time.Minute)), slots[1:])
}

// missedSlots returns a job's missed slots from a time on, oldest first.
func missedSlots(t *testing.T, db *DB, job string, since time.Time) []time.Time {
	t.Helper()
	const query = "SELECT slot FROM missed WHERE job = ? AND slot >= ? ORDER BY slot"
	return must[[]time.Time](t)(list(t.Context(), db, scanTime, query, job, since.UnixMilli()))
}

func TestRuns(t *testing.T) {
	db, ctx := newHistory(t), t.Context()
	run := Run{Job: "daily", Slot: noon, StartedAt: noon.Add(time.Second), Outcome: Running}
	run.ID = must[int64](t)(db.Begin(ctx, run))
	same(t, "begun", must[[]Run](t)(db.Runs(ctx, "", time.Time{}, 9)), []Run{run})
	if _, ended, err := db.LastRun(ctx, "daily"); ended || err != nil {
		t.Errorf("a run that goes on has ended: %v, %v", ended, err)
	}
	run.Kind, run.Stamp, run.FinishedAt, run.Outcome = "daily", "20260407T120001Z", noon.Add(time.Minute), Failed
	run.Error, run.Bytes, run.Detail = "disk full", 1<<40, json.RawMessage(`{"attempt":1}`)
	check(t, db.Finish(ctx, run))
	last, _, err := db.LastRun(ctx, "daily")
	check(t, err)
	same(t, "finished", last, run)

	later := Run{Job: "weekly", Kind: "weekly", StartedAt: noon.Add(time.Hour)}
	later.ID = must[int64](t)(db.Begin(ctx, later))
	later.FinishedAt, later.Outcome = noon.Add(2*time.Hour), OK
	check(t, db.Finish(ctx, later))
	all := must[[]Run](t)(db.Runs(ctx, "", noon, 9))
	if len(all) != 2 || all[0].Job != "weekly" || all[0].Kind != "weekly" || all[0].Outcome != OK {
		t.Errorf("runs %+v", all)
	}
	same(t, "of one job", must[[]Run](t)(db.Runs(ctx, "daily", noon, 9)), []Run{run})
	same(t, "limit", len(must[[]Run](t)(db.Runs(ctx, "", noon, 1))), 1)
	other := later
	other.StartedAt = noon
	if err := db.Finish(ctx, other); !errors.Is(err, ErrNoRun) {
		t.Errorf("a run that never began was finished: %v", err)
	}
	later.Outcome = "great"
	if err := db.Finish(ctx, later); err == nil {
		t.Error("an outcome of our invention was stored")
	}
}

func TestValidations(t *testing.T) {
	db, ctx := newHistory(t), t.Context()
	good := Validation{Stamp: "20260407T060000Z", CheckedAt: noon, Valid: true, Errors: []string{}, Bytes: 5,
		Duration: time.Second}
	bad := Validation{Stamp: "20260406T060000Z", CheckedAt: noon.Add(time.Hour),
		Errors: []string{"checksum_mismatch: db/atocore.db"}}
	check(t, db.PutValidation(ctx, Validation{Stamp: bad.Stamp, CheckedAt: noon.Add(-time.Hour), Valid: true}))
	check(t, db.PutValidation(ctx, bad))
	check(t, db.PutValidation(ctx, good))
	bad.FailedSince = bad.CheckedAt
	same(t, "least recently checked first", must[[]Validation](t)(db.Validations(ctx)), []Validation{good, bad})
	got, known, err := db.Validation(ctx, bad.Stamp)
	check(t, err)
	same(t, "the newest of a stamp", got, bad)
	same(t, "known", known, true)
	check(t, db.ForgetValidation(ctx, bad.Stamp))
	if _, known, err := db.Validation(ctx, bad.Stamp); known || err != nil {
		t.Errorf("not forgotten: %v, %v", known, err)
	}
}

func TestDrillsAndPushes(t *testing.T) {
	db, ctx := newHistory(t), t.Context()
	drill := Drill{Stamp: "20260407T060000Z", Source: "laptop", PreRestore: "20260407T070000Z",
		Note: "all well", StartedAt: noon, Duration: time.Minute, Pass: true,
		Surprises: []string{"slow"}}
	drill.ID = must[int64](t)(db.AddDrill(ctx, drill))
	failed := Drill{Stamp: "20260407T060000Z", Source: "local", StartedAt: noon.Add(time.Hour), Surprises: []string{}}
	failed.ID = must[int64](t)(db.AddDrill(ctx, failed))
	same(t, "drills", must[[]Drill](t)(db.Drills(ctx, 9)), []Drill{failed, drill})

	push := Push{Target: "laptop", Stamp: "20260407T060000Z", Push: "20260407T060000Z-0a1b2c", Seq: 7, Bytes: 9,
		Packs: 2, Duration: time.Minute, At: noon}
	other := Push{Target: "disk", Stamp: push.Stamp, Push: "20260407T060000Z-ffffff", Seq: 1, At: noon.Add(time.Hour)}
	check(t, db.AddPush(ctx, push))
	check(t, db.AddPush(ctx, push))
	check(t, db.AddPush(ctx, other))
	same(t, "to all", must[[]Push](t)(db.Pushes(ctx, "", 9)), []Push{other, push})
	same(t, "to one", must[[]Push](t)(db.Pushes(ctx, "laptop", 9)), []Push{push})
}

func TestAlarms(t *testing.T) {
	db, ctx := newHistory(t), t.Context()
	raise := func(level, message string, at time.Time) (Alarm, bool) {
		alarm, fresh, err := db.Raise(ctx, Alarm{Leg: "snapshot", Level: level, Message: message, Hint: "do " + message, Since: at})
		check(t, err)
		return alarm, fresh
	}
	alarm, fresh := raise("warning", "late", noon)
	want := Alarm{ID: alarm.ID, Leg: "snapshot", Since: noon, Level: "warning", Message: "late", Hint: "do late"}
	same(t, "raised", alarm, want)
	same(t, "fresh", fresh, true)
	alarm, fresh = raise("critical", "later", noon.Add(time.Hour))
	want.Level, want.Message, want.Hint = "critical", "later", "do later"
	same(t, "raised again", alarm, want)
	same(t, "fresh again", fresh, false)

	check(t, db.Notified(ctx, alarm.ID, noon.Add(time.Hour)))
	want.NotifiedAt = noon.Add(time.Hour)
	same(t, "open", must[[]Alarm](t)(db.OpenAlarms(ctx)), []Alarm{want})
	over, was, err := db.Resolve(ctx, "snapshot", noon.Add(2*time.Hour))
	check(t, err)
	want.ResolvedAt = noon.Add(2 * time.Hour)
	same(t, "resolved", over, want)
	same(t, "was open", was, true)
	if _, was, err := db.Resolve(ctx, "snapshot", noon); was || err != nil {
		t.Errorf("resolved twice: %v, %v", was, err)
	}
	same(t, "nobody knows", must[[]Alarm](t)(db.UntoldRecoveries(ctx)), []Alarm{want})
	check(t, db.Notified(ctx, alarm.ID, noon.Add(2*time.Hour)))
	same(t, "somebody knows", len(must[[]Alarm](t)(db.UntoldRecoveries(ctx))), 0)
	same(t, "open", len(must[[]Alarm](t)(db.OpenAlarms(ctx))), 0)

	// One that nobody heard of needs no recovery either.
	quiet, fresh := raise("warning", "late", noon.Add(3*time.Hour))
	if quiet.ID == alarm.ID || !fresh {
		t.Errorf("a new alarm is the old one: %+v", quiet)
	}
	_, _, err = db.Resolve(ctx, "snapshot", noon.Add(4*time.Hour))
	check(t, err)
	same(t, "nothing to tell", len(must[[]Alarm](t)(db.UntoldRecoveries(ctx))), 0)
	same(t, "all", len(must[[]Alarm](t)(db.Alarms(ctx, 9))), 2)
	if err := db.Notified(ctx, 99, noon); err == nil {
		t.Error("somebody was told of no alarm")
	}
}

func TestLegs(t *testing.T) {
	db, ctx := newHistory(t), t.Context()
	check(t, db.LegFailed(ctx, "scrub", noon, "rot"))
	check(t, db.LegSucceeded(ctx, "offsite:laptop", noon))
	check(t, db.LegFailed(ctx, "offsite:laptop", noon.Add(time.Hour), "asleep"))
	want := []Leg{
		{Name: "offsite:laptop", LastSuccess: noon, LastAttempt: noon.Add(time.Hour), LastError: "asleep"},
		{Name: "scrub", LastAttempt: noon, LastError: "rot"},
	}
	same(t, "legs", must[[]Leg](t)(db.Legs(ctx)), want)
	check(t, db.LegSucceeded(ctx, "scrub", noon.Add(time.Hour)))
	want[1] = Leg{Name: "scrub", LastSuccess: noon.Add(time.Hour), LastAttempt: noon.Add(time.Hour)}
	same(t, "legs", must[[]Leg](t)(db.Legs(ctx)), want)
}

// A file that is taken away under a process is not written to any more: it goes on in
// the one that lies there, or begins one, and ends no run of another file's.
func TestRenew(t *testing.T) {
	for name, harm := range map[string]func(path string) error{
		"removed":  os.Remove,
		"emptied":  func(path string) error { return os.Truncate(path, 0) },
		"replaced": func(path string) error { return os.WriteFile(path+".new", []byte("garbage"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "history.db")
			db, ctx := open(t, path), t.Context()
			run := Run{Job: "daily", StartedAt: noon, FinishedAt: noon, Outcome: OK}
			run.ID = must[int64](t)(db.Begin(ctx, run))
			if must[bool](t)(db.Renew(ctx)) {
				t.Error("renewed although nothing has happened")
			}
			check(t, harm(path))
			if name == "replaced" {
				check(t, os.Rename(path+".new", path))
			}
			if !must[bool](t)(db.Renew(ctx)) || must[bool](t)(db.Renew(ctx)) {
				t.Error("want it renewed once")
			}
			next := Run{Job: "weekly", StartedAt: noon}
			next.ID = must[int64](t)(db.Begin(ctx, next))
			if err := db.Finish(ctx, run); !errors.Is(err, ErrNoRun) {
				t.Errorf("a run of the file before: %v", err)
			}
			again := open(t, path)
			all := must[[]Run](t)(again.Runs(ctx, "", time.Time{}, 9))
			if len(all) != 1 || all[0].Job != "weekly" {
				t.Errorf("the file there holds %+v", all)
			}
		})
	}
	db, ctx := newHistory(t), t.Context()
	check(t, os.RemoveAll(filepath.Dir(db.path)))
	if _, err := db.Renew(ctx); err == nil || exists(db.path) {
		t.Errorf("made anew although its directory is away: %v", err)
	}
}

// A file that could only be read is opened once more to be written, and is not lost.
func TestRenewOfWhatCouldOnlyBeRead(t *testing.T) {
	path, ctx := filepath.Join(t.TempDir(), "history.db"), t.Context()
	before := open(t, path)
	check(t, before.LegSucceeded(ctx, "scrub", noon))
	db := must[*DB](t)(OpenReadOnly(ctx, path))
	t.Cleanup(func() { check(t, db.Close()) })
	if db.CheckWritable(ctx) == nil {
		t.Error("it can be written before it is renewed")
	}
	if must[bool](t)(db.Renew(ctx)) {
		t.Error("it is said to be lost")
	}
	check(t, db.CheckWritable(ctx))
	check(t, db.LegSucceeded(ctx, "drill", noon))
	if legs := must[[]Leg](t)(db.Legs(ctx)); len(legs) != 2 {
		t.Errorf("%+v", legs)
	}
}

func TestPrune(t *testing.T) {
	db, ctx := newHistory(t), t.Context()
	old, now := noon.Add(-KeepFor-48*time.Hour), noon
	for i := range 3 {
		at := old.Add(time.Duration(i) * time.Hour)
		id := must[int64](t)(db.Begin(ctx, Run{Job: "daily", StartedAt: at}))
		check(t, db.Finish(ctx, Run{ID: id, Job: "daily", StartedAt: at, FinishedAt: at, Outcome: OK}))
		check(t, db.AddPush(ctx, Push{Target: "laptop", Push: at.String(), Seq: int64(i), At: at}))
		must[int64](t)(db.AddDrill(ctx, Drill{StartedAt: at, Pass: i == 0}))
	}
	check(t, db.Missed(ctx, "daily", []time.Time{old, noon}))
	check(t, db.Serve(ctx, "daily", old))
	check(t, db.PutValidation(ctx, Validation{Stamp: "old", CheckedAt: old}))
	must[int64](t)(db.Begin(ctx, Run{Job: "stuck", StartedAt: old}))
	for _, leg := range []string{"over", "open"} {
		_, _, err := db.Raise(ctx, Alarm{Leg: leg, Level: "warning", Since: old})
		check(t, err)
	}
	_, _, err := db.Resolve(ctx, "over", old)
	check(t, err)

	same(t, "removed", must[int64](t)(db.Prune(ctx, now)), int64(1+2+1+1+2+1))
	same(t, "again", must[int64](t)(db.Prune(ctx, now)), int64(0))
	same(t, "newest of each job", len(must[[]Run](t)(db.Runs(ctx, "", time.Time{}, 9))), 2)
	same(t, "newest push", must[[]Push](t)(db.Pushes(ctx, "", 9))[0].Seq, int64(2))
	same(t, "newest drill, newest that passed", len(must[[]Drill](t)(db.Drills(ctx, 9))), 2)
	same(t, "open alarm", len(must[[]Alarm](t)(db.OpenAlarms(ctx))), 1)
	if _, known, _ := db.Served(ctx, "daily"); !known {
		t.Error("a slot was forgotten")
	}
}

func TestVolatile(t *testing.T) {
	db, err := Volatile(t.Context())
	check(t, err)
	check(t, db.Serve(t.Context(), "daily", noon))
	if served, known, err := db.Served(t.Context(), "daily"); !known || err != nil || !served.Equal(noon) {
		t.Errorf("served %v, %v, %v", served, known, err)
	}
	check(t, db.Close())
	if _, err := os.Lstat(":memory:"); err == nil {
		t.Error("memory is a file")
	}
}

// A snapshot that is found bad again and again has been so since the first time;
// one that was healed begins anew.
func TestValidationRemembersTheFirstFailure(t *testing.T) {
	db, ctx := newHistory(t), t.Context()
	put := func(hours int, valid bool) Validation {
		t.Helper()
		check(t, db.PutValidation(ctx, Validation{Stamp: "20260407T060000Z",
			CheckedAt: noon.Add(time.Duration(hours) * time.Hour), Valid: valid}))
		got, _, err := db.Validation(ctx, "20260407T060000Z")
		check(t, err)
		return got
	}
	for i, c := range []struct {
		valid bool
		since time.Time
	}{
		{true, time.Time{}}, {false, noon.Add(time.Hour)}, {false, noon.Add(time.Hour)}, {true, time.Time{}},
		{false, noon.Add(4 * time.Hour)},
	} {
		if got := put(i, c.valid); !got.FailedSince.Equal(c.since) || got.Valid != c.valid {
			t.Errorf("check %d: %+v, want failed since %v", i, got, c.since)
		}
	}
}

// A file of the first version knows when the newest check was, and no more.
func TestValidationsOfTheFirstSchema(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	old := must[*sql.DB](t)(sql.Open("sqlite", path))
	for _, statement := range []string{
		migrations[0], "PRAGMA user_version = 1",
		"INSERT INTO validations VALUES ('bad', 1000, 0, '[]', 0, 0), ('good', 2000, 1, '[]', 0, 0)",
	} {
		_, err := old.Exec(statement)
		check(t, err)
	}
	check(t, old.Close())
	db := must[*DB](t)(Open(t.Context(), path))
	defer db.Close()
	got := must[[]Validation](t)(db.Validations(t.Context()))
	if len(got) != 2 || got[0].FailedSince.UnixMilli() != 1000 || !got[1].FailedSince.IsZero() {
		t.Errorf("%+v", got)
	}
}
