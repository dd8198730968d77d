//go:build rig

package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/forktest"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
	"github.com/atocore/atobackupd/internal/provetest"
	"github.com/atocore/atobackupd/snapshot"
)

func init() { roles["a job of the year"] = forktest.JSON(yearJob) }

// killedJob is what another process does until it is killed.
type killedJob struct{ Dir, Job string }

func yearJob(k killedJob) error {
	return killable(k.Dir, func(ctx context.Context, a *App) (err error) {
		fmt.Println("working")
		switch k.Job {
		case "backup":
			_, err = a.Backup(ctx, snapshot.Daily, false, time.Now())
		case "sync":
			_, err = a.Sync(ctx, "", false)
		case "prune":
			_, err = a.Prune(ctx, time.Now(), false, false)
		}
		return err
	})
}

// What happens, and what came of it, as the summary counts it.
const (
	killedTake     = "killed in a take"
	killedPush     = "killed in a push"
	killedPrune    = "killed in a prune"
	fullHere       = "the disk here full"
	fullThere      = "the disk there full"
	asleep         = "the second machine asleep"
	droppedLine    = "the line dropped in a push"
	clockBack      = "the clock back by 30 hours"
	clockForward   = "the clock forward by 9 hours"
	toldSuffix     = ": told"
	madeRoomSuffix = ": made room"
	flippedHere    = "a byte flipped here"
	flippedThere   = "a byte flipped there"
	healedSuffix   = ": healed"
	namedAsLost    = ": named as lost"
	spareObject    = ": in nothing that a snapshot needs"
	falselyTold    = "told falsely"
	snapshotsBack  = "snapshots that came back"
)

// dayFaults are what may happen on a day.
var dayFaults = []string{killedTake, killedPush, killedPrune, fullHere, fullThere, asleep, droppedLine, clockBack,
	clockForward}

// day is one: the application writes, snapshots are taken, sent and thinned out.
func (y *year) day(a *App, day int, now time.Time) {
	t := y.t
	t.Helper()
	fault := ""
	if day > 2 && y.random.IntN(5) < 2 {
		fault = dayFaults[y.random.IntN(len(dayFaults))]
		y.counts[fault]++
	}
	y.at = fmt.Sprintf("day %d, %s, %s", day, now.Format(time.DateOnly), fault)
	now = now.Add(time.Duration(y.random.IntN(90*60)) * time.Second)
	switch fault {
	case clockBack:
		now = now.Add(-30 * time.Hour)
	case clockForward:
		now = now.Add(9 * time.Hour)
	}
	provetest.SetClock(t, now)
	y.ageVault(1)
	y.must(y.sql(fmt.Sprintf("UPDATE t SET x=hex(randomblob(400)) WHERE rowid %% 17 = %d AND rowid > 1", day%17)))
	y.must(os.WriteFile(y.path("data/registry.json"), fmt.Appendf(nil, `{"projects": [{"id": "p%d"}]}`, day), 0o600))

	switch fault {
	case killedTake:
		y.killedAtCall("backup", 60)
	case fullHere:
		y.full("here", func() error { _, err := a.Backup(t.Context(), snapshot.Daily, false, now); return err })
	}
	y.take(a, snapshot.Daily, false)
	if now.Weekday() == time.Sunday {
		y.take(a, snapshot.Weekly, true)
	}
	if now.Day() == 1 {
		y.take(a, snapshot.Monthly, true)
	}

	sync := func() error { return y.sync(a) }
	switch fault {
	case killedPush:
		y.killedAfter("sync", time.Duration(y.random.Int64N(int64(y.usual))))
	case fullThere:
		y.full("there", sync)
	case asleep:
		y.server.Stop()
		y.wantTold(fault, sync(), failure.Unreachable)
		y.server.Restart()
	case droppedLine:
		drop := time.AfterFunc(time.Duration(y.random.Int64N(int64(y.usual))), y.server.DropSessions)
		if err := sync(); err != nil {
			y.counts[fault+toldSuffix]++
		}
		drop.Stop()
	}
	began := time.Now()
	y.must(sync())
	if fault == "" {
		y.usual = time.Since(began)
	}

	if fault == killedPrune {
		y.killedAtCall("prune", 8)
	}
	before := y.stampsHere()
	_, err := a.Prune(t.Context(), time.Now(), false, false)
	y.must(err)
	y.wantKept("here", y.stampsHere(), before, yearMonthlyHere)
	were := append(y.there, before...)
	y.there = y.stampsThere(a)
	y.wantKept("there", y.there, were, yearMonthlyThere)
	y.wantQuiet(a, fault)
}

// sync brings the one target up to date. The kind of its error is that of its state.
func (y *year) sync(a *App) error {
	docs, err := a.Sync(y.t.Context(), "", false)
	if err != nil && docs[0].State == "no_space" {
		return &failure.Error{Op: "sync", Subject: docs[0].Target, Kind: failure.NoSpace, Err: err}
	}
	return err
}

// take takes a snapshot while the application writes.
func (y *year) take(a *App, kind snapshot.Kind, full bool) {
	y.t.Helper()
	stop, wrote := make(chan struct{}), make(chan error)
	go func() {
		var err error
		for n := 0; err == nil; n++ {
			select {
			case <-stop:
				wrote <- nil
				return
			case <-time.After(5 * time.Millisecond):
				err = y.sql(fmt.Sprintf("UPDATE t SET x=hex(randomblob(400)) WHERE rowid = %d", 2+n%1000))
			}
		}
		wrote <- err
	}()
	doc, err := a.Backup(y.t.Context(), kind, full, time.Now())
	close(stop)
	y.must(errors.Join(err, <-wrote))
	y.taken[doc.Stamp] = yearSnapshot{full, y.sum(y.here(doc.Stamp))}
	y.counts["snapshots taken: "+string(kind)]++
}

// killedAtCall has another process do a job, and be killed before a random
// file-changing call of the first most.
func (y *year) killedAtCall(job string, most int) {
	y.t.Helper()
	cmd := forktest.Command("a job of the year", killedJob{y.dir, job}, fsxtest.KillEnv(1+y.random.IntN(most)))
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState.ExitCode() != -1 {
		y.t.Errorf("%s: %v: %s", y.at, err, out)
	}
	y.adopt()
}

// killedAfter has another process do a job, and kills it after a while.
func (y *year) killedAfter(job string, after time.Duration) {
	y.t.Helper()
	child := forktest.StartWhen(y.t, "working", forktest.Command("a job of the year", killedJob{y.dir, job}))
	time.Sleep(after)
	child.Kill()
}

// adopt notes what a process published before it was killed or done.
func (y *year) adopt() {
	for _, stamp := range y.stampsHere() {
		if _, known := y.taken[stamp]; !known {
			y.taken[stamp] = yearSnapshot{false, y.sum(y.here(stamp))}
		}
	}
}

// full fills a disk while a job runs, which must say so. A push may find packs there
// that nothing needs any more, and make room.
func (y *year) full(disk string, job func() error) {
	y.t.Helper()
	filler := filepath.Join(y.disks, disk, "full")
	y.run("sh", "-c", `head -c 1G /dev/zero >"$1" 2>/dev/null || test -s "$1"`, "sh", filler)
	err := job()
	y.must(os.Remove(filler))
	if disk == "there" && err == nil {
		y.counts[fullThere+madeRoomSuffix]++
		return
	}
	y.wantTold("the disk "+disk+" full", err, failure.NoSpace)
}

// wantTold wants the error of a job that met a fault to be of the kind that says so.
func (y *year) wantTold(fault string, err error, kind failure.Kind) {
	y.t.Helper()
	if failure.KindOf(err) != kind {
		y.t.Errorf("%s: %v is of kind %v", y.at, err, failure.KindOf(err))
		return
	}
	y.counts[fault+toldSuffix]++
}

// ageVault has days go by on the second machine. Ages are measured there by its own
// clock, which is the real one: so whatever it stored becomes older by that much.
func (y *year) ageVault(days int) {
	y.t.Helper()
	for name, info := range y.files(y.vault("")) {
		when := info.ModTime().AddDate(0, 0, -days)
		y.must(os.Chtimes(name, when, when))
	}
}

func (y *year) stampsHere() (stamps []snapshot.Stamp) {
	y.t.Helper()
	list, err := os.ReadDir(y.path("backups/snapshots"))
	y.must(err)
	for _, e := range list {
		stamps = append(stamps, snapshot.Stamp(e.Name()))
	}
	return stamps
}

func (y *year) stampsThere(a *App) (stamps []snapshot.Stamp) {
	y.t.Helper()
	v, err := a.OpenVaultTarget(y.t.Context(), a.Config.Offsite[0], nil)
	y.must(err)
	list, _, err := v.ListVerified(y.t.Context(), v.Signers)
	y.must(errors.Join(err, v.Close()))
	for _, s := range list {
		stamps = append(stamps, s.Stamp)
	}
	slices.Sort(stamps)
	return stamps
}

// wantQuiet wants nothing told of a day whose faults are over, but what is so: that
// no daemon runs, and that a clock that went back left snapshots in its future.
func (y *year) wantQuiet(a *App, fault string) {
	y.t.Helper()
	told := map[string]bool{}
	for _, c := range a.Report(y.t.Context(), time.Now()).Conditions {
		told[c.Name] = true
		if c.Name != "daemon" && (c.Name != "clock" || fault != clockBack) {
			y.counts[falselyTold]++
			y.t.Errorf("%s: %s: %s", y.at, c.Name, c.Message)
		}
	}
	if fault == clockBack {
		if !told["clock"] {
			y.t.Errorf("%s: nothing was told of it", y.at)
		}
		y.counts[fault+toldSuffix]++
	}
}
