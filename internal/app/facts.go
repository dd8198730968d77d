package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/snapshot"
)

// Report says how everything stands at now: facts that are gathered afresh, and
// the one judgement of them.
func (a *App) Report(ctx context.Context, now time.Time) health.Report {
	facts, _ := a.Facts(ctx, now)
	return health.Judge(facts, now)
}

// Facts gathers what health judges by, and the snapshots that it saw on the way.
// Command and daemon ask this one function, so they cannot say two things. What
// cannot be found out is a fact about what needs it.
func (a *App) Facts(ctx context.Context, now time.Time) (health.Facts, []snapshot.Snapshot) {
	a.renewHistory(ctx, now)
	// First what was written last: a take that ends meanwhile must not show as
	// a success without a snapshot.
	seen := a.seenLegs(ctx)
	life, alive, lifeErr := a.life()
	list, _, listErr := a.Snapshots(ctx, now)
	f := health.Facts{
		Legs: a.legFacts(ctx, now, seen, list, cmp.Or(listErr, a.placeErr()), life, alive), Takes: a.takes(list, now),
		Clocks: a.futures(seen, list, life.Beat, now),
		Shrunk: suspects(list, now), Unverified: unverified(list, now), Settled: a.settled(),
		History: a.historyFacts(ctx, list), Daemon: a.daemonFacts(ctx, life, alive, now),
		Recipients: a.recipientsFact(), Shared: a.sharedFact(),
	}
	f.RestorePending = trouble(a.CheckNoPendingRestore())
	f.Mount = trouble(a.checkMount(ctx))
	if listErr != nil && f.Mount == nil {
		f.Mount = trouble(a.unmounted(listErr))
	}
	r := a.remedies(ctx, list)
	f.Damage = a.damage(r)
	if f.Mount == nil { // else its disk is away: nothing was taken from it, and the space is another's
		f.Damage = append(f.Damage, a.missing(r)...)
		f.Space = a.spaceFacts(ctx, now, list)
	}
	f.NotStarted = a.refusedStartFact(life, alive)
	if alive {
		f.Config, f.Others = life.Config, life.Others
		for _, u := range life.Notify {
			f.Notify = append(f.Notify, u.Trouble)
		}
	}
	if alive && life.History != "" && f.History.WriteError == "" {
		f.History.WriteError = life.History
		if f.History.Missing {
			f.History.Hint = restartThenScrub
		}
	}
	if lifeErr != nil {
		f.Others = append(f.Others, health.Other{Name: "state_dir", Trouble: *trouble(lifeErr)})
	}
	f.Lock = a.lockFacts(life.PID, now)
	return f, list
}

// placeErr is why no snapshot can be made in the backup directory, or be read from it,
// as it is; nil where it is not there, which is told otherwise.
func (a *App) placeErr() error {
	if a.store == nil {
		return nil
	}
	return a.store.Check()
}

// trouble puts an error into its parts: the hint is the failure's own.
func trouble(err error) *health.Trouble {
	if err == nil {
		return nil
	}
	return &health.Trouble{Message: err.Error(), Hint: failure.HintOf(err)}
}

// legFacts gathers what is known of each leg.
func (a *App) legFacts(ctx context.Context, now time.Time, seen map[string]history.Leg, list []snapshot.Snapshot,
	listErr error, life Life, alive bool) []health.LegFacts {
	holders, _ := a.OffsiteHolders() // the leg of a target whose state cannot be read says so below
	next, scheduleErr := a.NextSlots(ctx, now)
	known, _, err := a.history.FirstKnown(ctx)
	a.NoteHistoryError(err)
	var all []health.LegFacts
	for _, l := range legs(a.Config) {
		f := health.LegFacts{Name: l.name, Limit: l.limit, Off: l.off, Holds: l.holds, Follows: l.follows,
			Late: cmp.Or(l.late, health.LevelCritical), Hint: l.hint,
			LastSuccess: seen[l.name].LastSuccess, LastAttempt: seen[l.name].LastAttempt,
			LastError: seen[l.name].LastError, Next: next[l.job]}
		f.Watched, _, _ = a.history.FirstStart(ctx, l.job)
		if f.Watched.IsZero() && l.target != "" {
			f.Watched, _, err = a.history.FirstRun(ctx, l.runs) // no daemon, and somebody syncs
			a.NoteHistoryError(err)
		}
		if _, scheduled := next[l.job]; f.Watched.IsZero() && !scheduled && l.job != SyncJob(l.target) {
			f.Watched = known // no schedule sees to it, and it is watched all the same
		}
		if !f.Watched.IsZero() {
			f.Due = a.firstDue(l.job, f.Watched)
		}
		f.Last, f.Running = a.newestRun(ctx, l)
		// A retry was promised before its run showed as failed, and is taken back
		// after the next one has shown: it counts when either look finds it.
		if after, stillAlive, _ := a.life(); alive || stillAlive {
			f.RetryAt = life.Retries[l.name]
			if f.RetryAt.IsZero() {
				f.RetryAt = after.Retries[l.name]
			}
		}
		switch {
		case l.holds && listErr != nil:
			f.Err = listErr
		case l.holds:
			if s := snapshot.Newest(list, now, l.name == health.LegFull); s != nil {
				f.Newest = s.Stamp.Time()
			} else if s := snapshot.Ahead(list, now, l.name == health.LegFull); s != nil {
				f.Ahead = string(s.Stamp)
			}
		case l.target != "":
			f.Newest = NewestAt(holders, l.name, now)
			f.Err = a.checkTargetState(l.target, !f.LastSuccess.IsZero())
		}
		if scheduleErr != nil && f.Err == nil {
			f.Err = scheduleErr
		}
		all = append(all, f)
	}
	return all
}

// checkTargetState fails where what a target holds is not known: its state cannot be
// read, or is gone although a sync went well.
func (a *App) checkTargetState(target string, synced bool) error {
	state, err := offsite.LoadState(a.Config.StateDir, target)
	if err == nil && synced && state.VaultID == "" {
		err = &failure.Error{Op: "target state", Subject: offsite.StateDir(a.Config.StateDir, target),
			Err: errors.New("it is gone: what the target holds is not known before the next sync")}
	}
	return err
}

// firstDue returns when a job should have run first after it was known.
func (a *App) firstDue(job string, since time.Time) time.Time {
	list, err := Crons(a.Config)
	if err != nil {
		return time.Time{} // legFacts tells
	}
	for _, s := range list {
		if s.Name == job {
			if slots := s.Cron.Upcoming(since, since, 1); len(slots) > 0 {
				return slots[0]
			}
		}
	}
	return time.Time{}
}

// seenLegs returns how each leg last went, by the history and by this process,
// whichever knows more.
func (a *App) seenLegs(ctx context.Context) map[string]history.Leg {
	recorded, err := a.history.Legs(ctx)
	a.NoteHistoryError(err)
	seen := make(map[string]history.Leg)
	for _, l := range recorded {
		seen[l.Name] = l
	}
	a.process.mu.Lock()
	defer a.process.mu.Unlock()
	for name, l := range a.process.legs {
		known := seen[name]
		if l.LastSuccess.Before(known.LastSuccess) {
			l.LastSuccess = known.LastSuccess
		}
		// The history keeps milliseconds.
		if l.LastAttempt.Truncate(time.Millisecond).After(known.LastAttempt) {
			seen[name] = l
		}
	}
	return seen
}

// recentRuns is how many decided runs of a job are looked through for one that
// says something about the leg.
const recentRuns = 64

// newestRun returns a leg's newest run that says how it stands, and whether one
// is under way.
func (a *App) newestRun(ctx context.Context, l leg) (last history.Run, running bool) {
	under, err := a.history.Runs(ctx, l.runs, time.Time{}, 8)
	a.NoteHistoryError(err)
	running = slices.ContainsFunc(under, func(run history.Run) bool { return run.Outcome == history.Running })
	runs, err := a.history.EndedRuns(ctx, l.runs, l.name == health.LegFull, recentRuns)
	a.NoteHistoryError(err)
	if l.kind != "" {
		runs = slices.DeleteFunc(runs,
			func(run history.Run) bool { return (run.Kind == liveDrill) != (l.kind == liveDrill) })
	}
	last, _ = health.Decisive(runs)
	a.process.mu.Lock()
	defer a.process.mu.Unlock()
	// What this process could not write down comes after what it could.
	if own, ok := a.process.runs[l.name]; ok && (own.ID == 0 || own.ID > last.ID) {
		if _, decisive := health.Decisive([]history.Run{own}); decisive {
			last = own
		}
	}
	return last, running
}

// takes says when the two newest snapshots that count were taken.
func (a *App) takes(list []snapshot.Snapshot, now time.Time) health.Takes {
	var t health.Takes
	for _, s := range list { // oldest first
		if s.Counts(now) {
			t.Before, t.Newest = t.Newest, s.Stamp.Time()
		}
	}
	for _, l := range legs(a.Config) {
		if l.name == health.LegSnapshot {
			t.Limit = l.limit
		}
	}
	return t
}

// NewestAt returns the time of the newest snapshot that a target is known to
// hold; zero for a leg that is about none. One of the future counts for nothing.
func NewestAt(holders map[snapshot.Stamp][]string, leg string, now time.Time) (at time.Time) {
	for stamp, targets := range holders {
		for _, target := range targets {
			if t := stamp.Time(); health.LegOffsite(target) == leg && t.After(at) && !t.After(now) {
				at = t
			}
		}
	}
	return at
}

// futures names what is dated in the future.
func (a *App) futures(seen map[string]history.Leg, list []snapshot.Snapshot, beat, now time.Time) []string {
	var all []string
	future := func(what string, at time.Time) {
		if at.Sub(now) > health.ClockSlack {
			all = append(all, what+" ("+health.Clock(at)+")")
		}
	}
	for _, s := range list {
		future("snapshot "+string(s.Stamp), s.Stamp.Time())
	}
	future("the daemon's last sign of life", beat)
	for name, l := range sorted(seen) {
		future("the last success of "+name, l.LastSuccess)
		if !l.LastAttempt.Equal(l.LastSuccess) {
			future("the last attempt of "+name, l.LastAttempt)
		}
	}
	return all
}

// unverified says that nobody could tell whether the newest saved vector store
// is whole.
func unverified(list []snapshot.Snapshot, now time.Time) *health.Trouble {
	s := snapshot.Newest(list, now, true)
	if s == nil || s.Manifest == nil || s.Manifest.Artifacts[snapshot.Chroma].Consistency != snapshot.Unverified {
		return nil
	}
	return &health.Trouble{Since: s.Stamp.Time(),
		Message: fmt.Sprintf("snapshot %s: the Chroma directory was not recognised, or was copied without proof "+
			"that it is consistent", s.Stamp),
		Hint: "look at atocore.chroma_path and at the warnings of: atobackupd validate " + string(s.Stamp)}
}

func (a *App) spaceFacts(ctx context.Context, now time.Time, list []snapshot.Snapshot) *health.Space {
	s := a.space(ctx, now)
	if s == nil {
		return nil
	}
	return &health.Space{Free: s.Free, Keep: s.MinFree, Next: a.nextBytes(), FullInDays: s.FullInDays,
		Hint: a.roomHint(list)}
}

// nextBytes returns how many bytes the next full snapshot may need, without
// trying anything: 0 where it shares the blocks of the live files.
func (a *App) nextBytes() int64 {
	c := a.Config.AtoCore
	if a.Config.Backup.Share != string(snapshot.ShareCopy) && sharesBlocks(a.Config.Backup.Dir, c.DBPath) {
		return 0
	}
	var sum int64
	for _, path := range []string{c.DBPath, c.DBPath + "-wal", c.RegistryPath} {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			sum += info.Size()
		}
	}
	if c.ChromaPath == "" {
		return sum
	}
	// What cannot be looked at is told by the take itself.
	_ = filepath.WalkDir(c.ChromaPath, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			if info, err := entry.Info(); err == nil {
				sum += info.Size()
			}
		}
		return nil
	})
	return sum
}

// sharesBlocks reports whether two paths lie on one file system that can clone
// files.
func sharesBlocks(a, b string) bool {
	var x, y unix.Statfs_t
	if unix.Statfs(a, &x) != nil || unix.Statfs(b, &y) != nil {
		return false
	}
	return x.Fsid == y.Fsid && (x.Type == unix.BTRFS_SUPER_MAGIC || x.Type == unix.XFS_SUPER_MAGIC)
}

// renewHistory goes on in the file that lies at the history's path, where it is not the
// one that is open: what this process remembers beside it nobody else knows.
func (a *App) renewHistory(ctx context.Context, now time.Time) {
	if a.Options.ReadOnly {
		return
	}
	renewed, err := a.history.Renew(ctx)
	if renewed {
		a.process.forget()
		a.Options.Log.Warn("the history was removed or replaced: it goes on in the file that is there now")
	}
	a.process.mendHistory(func() error { return a.history.CheckWritable(ctx) })
	before := a.history.Renewals()
	a.checkHistory(ctx)
	if renewed || a.history.Renewals() != before {
		err = errors.Join(err, a.noteLostHistory(ctx), a.watchAnew(ctx, now))
	}
	if a.checkMount(ctx) == nil {
		if err := a.pair(ctx); err != nil {
			a.Options.Log.Debug("whose history this is could not be written down", "error", err)
		}
	}
	a.NoteHistoryError(err)
}

// watchAnew records in a history that was started over what the daemon watches: its
// scheduler recorded that when it began.
func (a *App) watchAnew(ctx context.Context, now time.Time) error {
	if !a.Options.Daemon {
		return nil
	}
	next, err := a.NextSlots(ctx, now)
	for job := range sorted(next) {
		if _, known, servedErr := a.history.Served(ctx, job); servedErr != nil || known {
			err = errors.Join(err, servedErr)
			continue
		}
		err = errors.Join(err, a.history.Serve(ctx, job, now))
	}
	return err
}

// historyFacts says how the record of what happened stands.
func (a *App) historyFacts(ctx context.Context, list []snapshot.Snapshot) (h health.History) {
	if err := a.unread; err != nil {
		h.ReadError, h.Hint = err.Error(), failure.HintOf(err)
		if h.Hint == "" {
			h.Hint = "move it aside, and then: " + restartThenScrub
		}
	}
	switch err := cmp.Or(canGrow(a.Config.StateDir), checkWritable(a.historyPath())); {
	case err != nil:
		h.WriteError = err.Error()
		if h.Hint == "" {
			h.Hint = hintToWrite(a.historyPath(), err)
		}
	case a.HistoryError() != nil:
		h.WriteError = a.HistoryError().Error()
	}
	h.Foreign = a.process.isForeign()
	var err error
	h.StartedOver, _, err = a.history.StartedOver(ctx)
	a.NoteHistoryError(err)
	h.Missing = hasOurs(list) && a.historyIsGone(ctx, h.StartedOver)
	if h.StartedOver.IsZero() {
		return h
	}
	h.TookForeign, err = a.history.TookForeign(ctx)
	a.NoteHistoryError(err)
	scrubs, err := a.history.EndedRuns(ctx, "scrub", false, recentRuns)
	a.NoteHistoryError(err)
	h.ScrubPassed = slices.ContainsFunc(scrubs, func(run history.Run) bool {
		return run.Outcome == history.OK && health.DetailOf(run).Left == 0
	})
	return h
}

// restartThenScrub begins a new history and looks at everything again.
const restartThenScrub = "systemctl restart atobackupd, and then: atobackupd scrub --all"

// recipientsFact says that there is nobody to seal copies to, while they are to
// be sent.
func (a *App) recipientsFact() *health.Trouble {
	if len(a.Config.Offsite) == 0 {
		return nil
	}
	recipients, err := crypt.LoadRecipients(a.Config.Encryption.Recipients, a.Config.Encryption.RecipientsFile)
	if err == nil && recipients.Len() == 0 {
		err = &failure.Error{Op: "encryption", Kind: failure.Config, Err: fmt.Errorf("there is no recipient"),
			Hint: "set encryption.recipients"}
	}
	return trouble(err)
}

// lockFacts says who holds the main lock and since when, and how to see what that
// process, which may be the daemon's, is at. Whoever takes it writes itself into its
// file.
func (a *App) lockFacts(daemon int, now time.Time) *health.LockFacts {
	path := filepath.Join(a.Config.Backup.Dir, ".lock")
	held, err := isLocked(path)
	if err != nil || !held {
		return nil
	}
	l := &health.LockFacts{Holder: fsx.LockHolder(path), Since: now}
	if info, err := os.Stat(path); err == nil {
		l.Since = info.ModTime()
	}
	var pid int
	switch _, err := fmt.Sscanf(l.Holder, "pid %d", &pid); {
	case err != nil:
		l.Hint = "see which process that is: `fuser -v " + path + "`"
	case pid == daemon:
		l.Hint = "see what the daemon is at: `atobackupd status`; if that hangs: systemctl restart atobackupd"
	default:
		l.Hint = fmt.Sprintf("see what that process is at: `ps -o pid,etime,stat,args -p %d`; if it hangs: kill %d",
			pid, pid)
	}
	return l
}

// historyPath is where the record of what happened lies.
func (a *App) historyPath() string { return filepath.Join(a.Config.StateDir, "history.db") }

// hintFor puts the arguments of a command line of ours together.
func hintFor(words ...string) string { return "atobackupd " + strings.Join(words, " ") }
