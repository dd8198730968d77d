package web

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/retention"
	"github.com/atocore/atobackupd/snapshot"
)

// fakeSource has a fixed state and does as its functions say.
type fakeSource struct {
	state    *State
	lookErr  error
	validate func(context.Context, snapshot.Stamp) (snapshot.Result, error)
	backup   func(context.Context, bool) (any, error)
}

func (f *fakeSource) Look(ctx context.Context, now time.Time) (*State, error) {
	if f.lookErr != nil {
		return nil, f.lookErr
	}
	copied := *f.state
	return &copied, ctx.Err()
}

func (f *fakeSource) Validate(ctx context.Context, stamp snapshot.Stamp) (snapshot.Result, error) {
	if f.validate != nil {
		return f.validate(ctx, stamp)
	}
	for _, s := range f.state.Snapshots {
		if s.Stamp == stamp {
			return snapshot.Result{Stamp: string(stamp), Path: s.Path, Exists: true, Valid: s.IsValid(),
				Errors:   append([]string{}, s.Errors...),
				Warnings: []string{}, Checked: []string{"db", "registry", "files"}, DurationMS: 1200}, nil
		}
	}
	return snapshot.Result{Stamp: string(stamp), Path: "/backups/snapshots/" + string(stamp),
		Errors: []string{"snapshot_missing"}, Warnings: []string{}, Checked: []string{}}, nil
}

func (f *fakeSource) Backup(ctx context.Context, includeChroma bool) (any, error) {
	if f.backup != nil {
		return f.backup(ctx, includeChroma)
	}
	return map[string]any{"backup_root": "/backups/snapshots/20260407T060000Z", "include_chroma": includeChroma}, nil
}

func berlin(t testing.TB) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

// sceneNow is a Tuesday in summer time.
var sceneNow = time.Date(2026, 4, 7, 7, 12, 0, 0, time.UTC)

const (
	mib = int64(1) << 20
	gib = int64(1) << 30
)

// bigScene is an installation that has run well for half a year: a snapshot
// each morning, a full one each Sunday, a laptop that is a few days behind, and
// a disk in the cupboard.
func bigScene(t testing.TB) *State {
	t.Helper()
	st := &State{
		Now: sceneNow, Location: berlin(t), Host: "dalidou", Version: "1.0.0",
		BackupDir: "/srv/storage/atocore/backups", FreeBytes: 214 * gib,
		Commands: Commands{StopService: "docker compose down", StartService: "docker compose up -d"},
		Next: []Upcoming{
			{"daily", at(2026, 4, 8, 4)}, {"weekly", at(2026, 4, 12, 3)}, {"scrub", at(2026, 4, 8, 1)},
			{"drill", at(2026, 7, 1, 5)},
		},
	}
	var all []snapshot.Snapshot
	for day := at(2025, 10, 12, 4); !day.After(sceneNow); day = day.AddDate(0, 0, 1) {
		all = append(all, sceneSnapshot(day, len(all)))
	}
	st.take(all)
	st.keep(t, all)
	st.setLegs([]testLeg{
		{Name: "snapshot", Level: health.LevelOK, LastSuccess: at(2026, 4, 7, 4), LastAttempt: at(2026, 4, 7, 4),
			Next: st.Next[0].At, Limit: 26 * time.Hour},
		{Name: "full", Level: health.LevelOK, LastSuccess: at(2026, 4, 5, 4), LastAttempt: at(2026, 4, 5, 4),
			Next: st.Next[1].At, Limit: 8 * 24 * time.Hour},
		{Name: "offsite:laptop", Level: health.LevelOK, LastSuccess: at(2026, 4, 5, 19), LastAttempt: at(2026, 4, 7, 7),
			Limit: 8 * 24 * time.Hour, Message: "laptop: it does not answer; it is tried again later"},
		{Name: "offsite:cupboard", Level: health.LevelOK, LastSuccess: at(2026, 4, 7, 4),
			LastAttempt: at(2026, 4, 7, 4), Limit: 8 * 24 * time.Hour},
		{Name: "prune", Level: health.LevelOK, LastSuccess: at(2026, 4, 7, 4), LastAttempt: at(2026, 4, 7, 4),
			Next: st.Next[0].At, Limit: 26 * time.Hour},
		{Name: "scrub", Level: health.LevelOK, LastSuccess: at(2026, 4, 1, 1), LastAttempt: at(2026, 4, 1, 1),
			Next: st.Next[2].At, Limit: 9 * 24 * time.Hour},
		{Name: "drill", Level: health.LevelOK, LastSuccess: at(2026, 4, 1, 5), LastAttempt: at(2026, 4, 1, 5),
			Next: st.Next[3].At, Limit: 100 * 24 * time.Hour},
	})
	st.Status.Daemon = health.DaemonStatus{State: health.DaemonRunning, Beat: st.Now}
	st.targets(all)
	st.Drills = []history.Drill{
		{ID: 3, Stamp: "20260401T040000Z", Source: "local", StartedAt: at(2026, 4, 1, 5), Duration: 41 * time.Second,
			Pass: true, Surprises: []string{}},
		{ID: 2, Stamp: "20260328T050000Z", Source: "laptop", StartedAt: at(2026, 3, 28, 9), Duration: 9 * time.Minute,
			Pass: true, Surprises: []string{"the vault held one snapshot more than expected"}},
		{ID: 1, Stamp: "20260101T050000Z", Source: "local", StartedAt: at(2026, 1, 1, 6), Duration: 38 * time.Second,
			Pass: true, Surprises: []string{}},
	}
	st.Alarms = []history.Alarm{
		{ID: 2, Leg: "offsite:laptop", Since: at(2026, 3, 14, 8), Level: health.LevelCritical,
			Message:    "its newest snapshot is of 2026-03-05 04:00 UTC, more than 8 days ago",
			ResolvedAt: at(2026, 3, 15, 17)},
		{ID: 1, Leg: "snapshot", Since: at(2026, 1, 19, 5), Level: health.LevelCritical,
			Message: "space: /srv/storage/atocore/backups: 702 MiB are free, 1102 MiB are needed and 1024 MiB must " +
				"stay free (min_free)", ResolvedAt: at(2026, 1, 19, 9)},
	}
	return st
}

func at(year int, month time.Month, day, hour int) time.Time {
	return time.Date(year, month, day, hour, 0, 0, 0, time.UTC)
}

// sceneSnapshot is the n-th daily snapshot; on Sundays it is a full one.
func sceneSnapshot(when time.Time, n int) snapshot.Snapshot {
	stamp, valid := snapshot.StampOf(when), true
	s := snapshot.Snapshot{
		Stamp: stamp, Path: "/srv/storage/atocore/backups/snapshots/" + string(stamp), Kind: snapshot.Daily,
		Valid: &valid, Checked: when.Add(time.Minute),
		Bytes: 310*mib + int64(n)*900<<10 + int64(n*n%17)<<20, CreatedAt: when,
	}
	noise := time.Duration(n * n * 7919 % 1009)
	took := 1700*time.Millisecond + noise*time.Millisecond
	if when.Weekday() == time.Sunday {
		s.Kind, s.Full = snapshot.Weekly, true
		s.Bytes += 1200*mib + int64(n)*4*mib
		took = 21*time.Second + (time.Duration(n)*40+noise*3)*time.Millisecond
	}
	s.BytesExclusive = s.Bytes
	s.RawMetadata = json.RawMessage(fmt.Sprintf(`{"created_at": %q, "backup_root": %q, "include_chroma": %v}`,
		when.Format(time.RFC3339), s.Path, s.Full))
	s.Manifest = &snapshot.Manifest{
		Schema: 1, Stamp: stamp, Kind: s.Kind, Host: "dalidou", ToolVersion: "1.0.0", StartedAt: when,
		FinishedAt: when.Add(took),
		Artifacts: map[string]snapshot.Artifact{
			snapshot.DB: {Included: true, Method: "wal-copy",
				SourcePath: "/srv/storage/atocore/data/db/atocore.db", Bytes: 310 * mib, Files: 1,
				Consistency: snapshot.Consistent},
			snapshot.Registry: {Included: true, Method: "copy",
				SourcePath: "/srv/storage/atocore/config/project-registry.json", Bytes: 4096, Files: 1,
				Consistency: snapshot.Consistent},
			snapshot.Chroma: {Included: s.Full, Method: "live", SourcePath: "/srv/storage/atocore/data/chroma",
				Bytes: 1200 * mib, Files: 11, Consistency: snapshot.Consistent},
		},
		DB: &snapshot.DBInfo{PageSize: 4096, PageCount: 79360,
			Tables: map[string]int64{"memories": 4100 + int64(n), "source_documents": 1892, "chunks": 88231}},
		Files: []snapshot.File{
			{Path: "config/project-registry.json", Type: snapshot.TypeFile, Size: 4096,
				SHA256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"},
			{Path: "db/atocore.db", Type: snapshot.TypeFile, Size: 310 * mib,
				SHA256: "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"},
		},
	}
	return s
}

// take records all snapshots that were ever taken.
func (st *State) take(all []snapshot.Snapshot) {
	for _, s := range all {
		took := s.Manifest.FinishedAt.Sub(s.Manifest.StartedAt)
		st.Takes = append(st.Takes, Take{Stamp: s.Stamp, Full: s.Full, Bytes: s.Bytes, Duration: took})
		st.Runs = append(st.Runs, history.Run{ID: int64(len(st.Runs) + 1), Job: "backup", Kind: string(s.Kind),
			Stamp:     string(s.Stamp),
			StartedAt: s.CreatedAt, FinishedAt: s.CreatedAt.Add(took), Outcome: history.OK, Bytes: s.Bytes})
	}
	slices.Reverse(st.Runs)
	st.Recent = st.Runs
}

// keep leaves what retention keeps, by pruning after each day as the daemon
// does, and returns the decision on it.
func (st *State) keep(t testing.TB, all []snapshot.Snapshot) {
	t.Helper()
	p := scenePolicy
	p.Location = st.Location
	for _, s := range all {
		st.Snapshots = append(st.Snapshots, s)
		d := retention.Plan(forRetention(st.Snapshots), p, s.Stamp.Time())
		for _, v := range d.Delete() {
			st.Snapshots = slices.DeleteFunc(st.Snapshots,
				func(s snapshot.Snapshot) bool { return string(s.Stamp) == v.Stamp })
		}
	}
	st.judge()
}

var scenePolicy = retention.Policy{Daily: 7, Weekly: 4, Monthly: 6, Invalid: 7 * 24 * time.Hour, MaxDeleteFraction: 1}

func (st *State) judge() {
	p := scenePolicy
	p.Location = st.Location
	st.Decision = retention.Plan(forRetention(st.Snapshots), p, st.Now)
}

func forRetention(list []snapshot.Snapshot) []retention.Snapshot {
	var plan []retention.Snapshot
	for _, s := range list {
		plan = append(plan, retention.Snapshot{Stamp: string(s.Stamp), Time: s.Stamp.Time(), Kind: string(s.Kind),
			Full: s.Full, Valid: s.IsValid(), Pinned: s.Pinned})
	}
	return plan
}

// targets returns a laptop that sleeps most of the day and a disk that is there.
func (st *State) targets(all []snapshot.Snapshot) {
	laptop := Target{Name: "laptop", Type: "sftp", Place: "sftp://atobackup@laptop.local/home/atobackup/vault",
		Level:       health.LevelOK,
		LastSuccess: at(2026, 4, 5, 19), LastAttempt: at(2026, 4, 7, 7),
		NextTry: at(2026, 4, 7, 7).Add(15 * time.Minute), Limit: 8 * 24 * time.Hour,
		LastError: "laptop: dial tcp: lookup laptop.local: i/o timeout"}
	cupboard := Target{Name: "cupboard", Type: "dir", Place: "/mnt/cupboard/vault", Level: health.LevelOK,
		LastSuccess: at(2026, 4, 7, 4), LastAttempt: at(2026, 4, 7, 4), Limit: 8 * 24 * time.Hour}
	for i, s := range all {
		kept := slices.ContainsFunc(st.Snapshots, func(k snapshot.Snapshot) bool { return k.Stamp == s.Stamp })
		bytes := 14*mib + int64(i*i*7919%1009)*mib/90
		if i == 0 || i == 91 {
			bytes = 640 * mib
		}
		if kept || s.Full && i > 120 {
			cupboard.Stamps = append(cupboard.Stamps, s.Stamp)
		}
		st.Pushes = append(st.Pushes,
			history.Push{Target: "cupboard", Stamp: string(s.Stamp), Bytes: bytes, Packs: 3, Duration: 7 * time.Second,
				At: s.CreatedAt.Add(time.Minute)})
		if s.CreatedAt.After(at(2026, 4, 5, 19)) {
			laptop.Behind, laptop.BehindBytes = laptop.Behind+1, laptop.BehindBytes+s.Bytes
			continue
		}
		if kept && i > 60 {
			laptop.Stamps = append(laptop.Stamps, s.Stamp)
		}
		if i > 60 && i%3 == 0 {
			st.Pushes = append(st.Pushes,
				history.Push{Target: "laptop", Stamp: string(s.Stamp), Bytes: bytes * 2, Packs: 4,
					Duration: 34 * time.Second, At: s.CreatedAt.Add(15 * time.Hour)})
		}
	}
	slices.SortStableFunc(st.Pushes, func(a, b history.Push) int { return b.At.Compare(a.At) })
	st.Targets = []Target{laptop, cupboard}
}

// warningScene has a drill that is overdue and a snapshot of AtoCore's own.
func warningScene(t testing.TB) *State {
	st := bigScene(t)
	st.setLeg(6, testLeg{Name: "drill", Level: health.LevelWarning, Headline: "No restore has been rehearsed since " +
		"2025-12-01 05:00 UTC.", Hint: "atobackupd drill", LastSuccess: at(2025, 12, 1, 5),
		LastAttempt: at(2025, 12, 1, 5), Next: st.Next[3].At,
		Limit: 100 * 24 * time.Hour, Message: "its last success was 2025-12-01 05:00 UTC, more than 100 days ago"})
	st.Alarms = append([]history.Alarm{{ID: 9, Leg: "drill", Since: at(2026, 3, 12, 6), Level: health.LevelWarning,
		Message: st.Status.Legs[6].Message}}, st.Alarms...)
	st.Drills = st.Drills[2:]
	adopted := snapshot.Snapshot{Stamp: "20260406T153000Z", Path: st.BackupDir + "/snapshots/20260406T153000Z",
		Kind: snapshot.Adopted, Full: true, Bytes: 1900 * mib, BytesExclusive: 1900 * mib, CreatedAt: at(2026, 4, 6,
			15)}
	st.Snapshots = slices.Insert(st.Snapshots, len(st.Snapshots)-1, adopted)
	st.Warnings = []string{st.BackupDir + "/snapshots/old.tar.gz is not a snapshot: it does not belong there"}
	return st
}

// criticalScene has a disk that has gone bad: takes fail, and one snapshot has
// rotted.
func criticalScene(t testing.TB) *State {
	st := bigScene(t)
	st.Now = sceneNow.Add(50 * time.Hour)
	for i := range st.Next[:3] {
		st.Next[i].At = st.Next[i].At.AddDate(0, 0, []int{2, 0, 7}[i])
	}
	for _, leg := range []int{0, 4} {
		st.Status.Legs[leg].Next = &st.Next[0].At
	}
	pruned := at(2026, 4, 9, 4)
	st.Status.Legs[4].LastSuccess, st.Status.Legs[5].Next = &pruned, &st.Next[2].At
	why := "backup: /srv/storage/atocore/data/db/atocore.db: database disk image is malformed: look at the disk, " +
		"then restore the last valid snapshot"
	st.setLeg(0, testLeg{Name: "snapshot", Level: health.LevelCritical, LastSuccess: at(2026, 4, 7, 4),
		LastAttempt: at(2026, 4, 9, 4), Next: st.Next[0].At, Limit: 26 * time.Hour,
		Message: why, Headline: "The last attempt to take a snapshot failed.", Hint: "atobackupd backup"})
	st.setLeg(2, testLeg{Name: "offsite:laptop", Level: health.LevelCritical, LastSuccess: at(2026, 3, 22, 19),
		LastAttempt: at(2026, 4, 9, 7), Limit: 8 * 24 * time.Hour,
		Message:  "laptop: the host key has changed: SHA256:uNiVztksCsDhcc0u9e8BrrJXVKSTTr0a7C4Ad1jCZqE",
		Headline: "The last attempt to bring laptop up to date failed.", Hint: "atobackupd target trust laptop"})
	bad := false
	rotten := &st.Snapshots[len(st.Snapshots)-3]
	rotten.Valid, rotten.Checked = &bad, at(2026, 4, 8, 1)
	rotten.Errors = []string{"db_integrity_check_failed: Tree 12 page 4711 cell 3: invalid page number 99182",
		"checksum_mismatch: db/atocore.db"}
	st.judge()
	st.Targets[0].Level, st.Targets[0].LastError = health.LevelCritical, st.Status.Legs[2].Message
	scrub := &st.Status.Legs[5]
	scrub.Level, scrub.Message = health.LevelCritical,
		"scrub: 1 of 17 snapshots: no longer valid: ["+string(rotten.Stamp)+
			" (db_integrity_check_failed)]: suspect the disk; fetch them from the vault, or take a fresh one"
	scrub.Headline, scrub.Hint = "Stored snapshots did not pass their last check.", "atobackupd scrub --repair"
	st.Status.Conditions = append(st.Status.Conditions,
		health.Condition{Name: "damaged", Level: health.LevelCritical, Headline: "A stored copy is damaged.",
			Message: "damaged or missing: " + string(rotten.Stamp), Hint: "atobackupd scrub --repair"})
	st.Alarms = append([]history.Alarm{
		{ID: 12, Leg: "snapshot", Since: at(2026, 4, 8, 4), Level: health.LevelCritical, Message: why},
		{ID: 11, Leg: "scrub", Since: at(2026, 4, 8, 1), Level: health.LevelCritical,
			Message: st.Status.Legs[5].Message},
		{ID: 10, Leg: "offsite:laptop", Since: at(2026, 3, 31, 8), Level: health.LevelCritical,
			Message: st.Status.Legs[2].Message},
	}, st.Alarms...)
	st.Drills = append([]history.Drill{{ID: 7, Stamp: string(rotten.Stamp), Source: "local",
		StartedAt: at(2026, 4, 8, 8), Duration: 3 * time.Second, Surprises: rotten.Errors}}, st.Drills...)
	begun := st.Now.Add(-20 * time.Minute)
	st.Runs = append([]history.Run{{ID: 900, Job: "scrub", StartedAt: begun, Outcome: history.Running}}, st.Runs...)
	st.Status.Running = []health.RunningStatus{{Job: "scrub", Since: begun,
		Progress: &health.Progress{Step: "checking", Done: 9 << 30, Total: 50 << 30, Since: begun, At: st.Now}}}
	return st
}

// emptyScene is the first minute of an installation.
func emptyScene(t testing.TB) *State {
	st := &State{
		Now: sceneNow, Location: berlin(t), Host: "dalidou", Version: "1.0.0",
		BackupDir: "/srv/storage/atocore/backups", FreeBytes: -1,
		Next: []Upcoming{{"daily", at(2026, 4, 8, 4)}, {"weekly", at(2026, 4, 12, 3)}},
	}
	st.setLegs([]testLeg{{Name: "snapshot", Level: health.LevelWarning, Limit: 26 * time.Hour, Next: at(2026, 4, 8, 4),
		Message: "it has not run yet", Headline: "There is nothing to restore to yet.", Hint: "atobackupd backup"}})
	return st
}

// testLeg is a leg as a scene writes it.
type testLeg struct {
	Name, Level                    string
	LastSuccess, LastAttempt, Next time.Time
	Limit                          time.Duration
	Message, Headline, Hint        string
}

func (l testLeg) leg() health.Leg {
	set := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		return &t
	}
	return health.Leg{Name: l.Name, Level: l.Level, LastSuccess: set(l.LastSuccess), LastAttempt: set(l.LastAttempt),
		Next: set(l.Next), Limit: l.Limit,
		Message: l.Message, Headline: l.Headline, Hint: l.Hint, Watched: true}
}

func (st *State) setLegs(list []testLeg) {
	st.Status.Report = health.Report{Level: health.LevelOK, Legs: []health.Leg{}, Conditions: []health.Condition{}}
	for i, l := range list {
		st.Status.Legs = append(st.Status.Legs, health.Leg{})
		st.setLeg(i, l)
	}
}

func (st *State) setLeg(i int, l testLeg) {
	st.Status.Legs[i] = l.leg()
	st.Status.Level = health.Worse(st.Status.Level, l.Level)
}

var errLocked = &failure.Error{Op: "lock", Subject: "/backups/.lock", Kind: failure.Locked,
	Err:  fmt.Errorf("held by pid 4242: taking a daily snapshot"),
	Hint: "wait for it to finish, or raise --lock-timeout"}
