package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
)

// Life is what a daemon says of itself. It lies in a file, so that whoever asks
// the command hears what the daemon says.
type Life struct {
	PID     int                  `json:"pid"`
	Since   time.Time            `json:"since"`             // it runs
	Beat    time.Time            `json:"beat"`              // the scheduler's loop was last seen at work
	Stopped time.Time            `json:"stopped,omitzero"`  // it ended in order
	Retries map[string]time.Time `json:"retries,omitempty"` // when failed runs are started again, by leg
	Config  *health.Trouble      `json:"config,omitempty"`  // a reload was refused
	Notify  []Unheard            `json:"notify,omitempty"`  // addresses that did not take the last message
	Others  []health.Other       `json:"others,omitempty"`  // jobs that hang, an address that is taken
	History string               `json:"history,omitempty"` // the history cannot be written
}

// Unheard is an address that did not take the last message, by what tells it from
// others without telling its secrets.
type Unheard struct {
	Key string `json:"key"`
	health.Trouble
}

const (
	lifeFile = "daemon.json"
	lifeLock = "daemon.lock"
)

// HoldLife takes the locks that say that a daemon runs: in state_dir, and in the
// backup directory, for a daemon of another state_dir would prune and count there
// too. A second one is refused, and remembered where both look, so that people are
// told. The caller calls release when the daemon ends.
func (a *App) HoldLife(ctx context.Context) (release func(), err error) {
	if err := fsx.MkdirAll(a.Config.StateDir, 0o700); err != nil {
		return nil, err
	}
	purpose := "the daemon of " + a.Config.StateDir
	const patience = 2 * time.Second
	own, err := fsx.LockFile(ctx, filepath.Join(a.Config.StateDir, lifeLock), purpose, patience, nil)
	if err != nil {
		return nil, a.refuseSecond(ctx, err)
	}
	if a.checkMount(ctx) != nil {
		return own.Unlock, nil // nothing is written onto a bare mount point
	}
	there, err := fsx.LockFile(ctx, a.backupLifeLock(), purpose, patience, nil)
	if err != nil {
		own.Unlock()
		return nil, a.refuseSecond(ctx, err)
	}
	return func() { there.Unlock(); own.Unlock() }, nil
}

func (a *App) backupLifeLock() string { return filepath.Join(a.Config.Backup.Dir, "."+lifeLock) }

// refuseSecond turns the error of a lock that another daemon holds into what to
// tell, and notes it beside the backups and in this state_dir.
func (a *App) refuseSecond(ctx context.Context, err error) error {
	if failure.KindOf(err) != failure.Locked {
		return err
	}
	holder := fsx.LockHolder(a.backupLifeLock())
	err = &failure.Error{Op: "run", Subject: a.Config.Backup.Dir, Kind: failure.Locked,
		Err: fmt.Errorf("another daemon runs here: %s", holder), Hint: "stop it first: systemctl stop atobackupd"}
	now := time.Now()
	second := secondStart{At: now, What: fmt.Sprintf(
		"a second daemon (pid %d, state_dir %s) was started beside the one that runs, and refused", os.Getpid(),
		a.Config.StateDir)}
	run := history.Run{Job: DaemonJob, Kind: secondDaemon, StartedAt: now, FinishedAt: now, Outcome: history.Failed,
		Error: second.What}
	var historyErr error
	if run.ID, historyErr = a.history.Begin(ctx, run); historyErr == nil {
		historyErr = a.history.Finish(ctx, run)
	}
	a.NoteHistoryError(historyErr)
	data, _ := json.Marshal(second) // a time and a text always encode
	if writeErr := fsx.WriteFile(a.secondPath(), append(data, '\n'), 0o600); writeErr != nil {
		a.Options.Log.Warn("the daemon that runs cannot be told of this one", "error", writeErr)
	}
	return err
}

// secondStart is what a refused daemon leaves beside the backups. It can raise a
// condition, and nothing else is decided by it.
type secondStart struct {
	At   time.Time `json:"at"`
	What string    `json:"what"`
}

func (a *App) secondPath() string { return filepath.Join(a.Config.Backup.Dir, ".second-daemon.json") }

// secondStarted says that a second daemon was started within the hour, by whatever
// state_dir; nil when none was.
func (a *App) secondStarted(now time.Time) *health.Trouble {
	const longest = 4096
	data, err := fsx.ReadRegular(a.secondPath(), longest)
	var s secondStart
	if err != nil || json.Unmarshal(data, &s) != nil || now.Sub(s.At).Abs() >= settled {
		return nil
	}
	return &health.Trouble{Message: s.What, Hint: secondHint, Since: s.At}
}

const secondHint = "find out who starts it: systemctl status atobackupd"

// SetLife says how the daemon that this process is stands, and writes it down for
// others to read.
func (a *App) SetLife(l Life) error {
	own := l
	own.History = "" // this process knows better than what it last wrote
	a.process.mu.Lock()
	a.process.life = &own
	a.process.mu.Unlock()
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return fsx.WriteFile(filepath.Join(a.Config.StateDir, lifeFile), append(data, '\n'), 0o600)
}

// life returns what the daemon last said, and whether it is alive: this process
// itself, or another that holds its lock.
func (a *App) life() (l Life, alive bool, err error) {
	a.process.mu.Lock()
	own := a.process.life
	a.process.mu.Unlock()
	if own != nil {
		return *own, true, nil
	}
	data, err := fsx.ReadRegular(filepath.Join(a.Config.StateDir, lifeFile), mostDocument)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return l, false, err
	}
	if err == nil {
		_ = json.Unmarshal(data, &l) // half a file says nothing; the lock decides
	}
	alive, err = isLocked(filepath.Join(a.Config.StateDir, lifeLock))
	return l, alive, err
}

// LastLife returns what the daemon before this one said last.
func (a *App) LastLife() Life {
	var l Life
	if data, err := fsx.ReadRegular(filepath.Join(a.Config.StateDir, lifeFile), mostDocument); err == nil {
		_ = json.Unmarshal(data, &l) // half a file says nothing
	}
	return l
}

// isLocked reports whether another process holds a lock, without taking it.
func isLocked(path string) (bool, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// hungAfter is how long the scheduler's loop, which looks every 30 s, may be
// silent.
const hungAfter = 5 * time.Minute

// daemonFacts says who keeps the schedule.
func (a *App) daemonFacts(ctx context.Context, l Life, alive bool, now time.Time) health.Daemon {
	crons, err := Crons(a.Config)
	d := health.Daemon{Scheduled: err == nil && len(crons) > 0, State: health.DaemonNever, Beat: l.Beat}
	switch {
	case alive && now.Sub(l.Beat).Abs() > hungAfter:
		d.State, d.Since = health.DaemonHung, l.Beat
	case alive:
		d.State, d.Since = health.DaemonRunning, l.Since
	case !l.Beat.IsZero():
		d.State, d.Since = health.DaemonStopped, l.Beat
	}
	d.Crash, d.Second = a.daemonTroubles(ctx, now)
	return d
}

// Records of the daemon's own life.
const (
	// DaemonJob is the name under which the daemon's own life is recorded.
	DaemonJob = "daemon"
	// secondDaemon is the kind of a start that was refused because one runs.
	secondDaemon = "second"
	// settled is how long a daemon must have lived for the failure of the one
	// before it to be over.
	settled = time.Hour
)

// daemonTroubles says how the daemon ended before this one, if that was by the
// watchdog or a crash and since then none has lived long enough, and whether a
// second one was started within the hour.
func (a *App) daemonTroubles(ctx context.Context, now time.Time) (crash, second *health.Trouble) {
	second = a.secondStarted(now)
	runs, err := a.history.Runs(ctx, DaemonJob, time.Time{}, 16)
	a.NoteHistoryError(err)
	for _, run := range runs {
		if run.Kind == secondDaemon {
			if second == nil && now.Sub(run.FinishedAt).Abs() < settled {
				second = &health.Trouble{Message: run.Error, Hint: secondHint, Since: run.FinishedAt}
			}
			continue
		}
		end := run.FinishedAt
		if end.IsZero() {
			end = now
		}
		switch {
		case run.Outcome == history.Failed:
			return &health.Trouble{Message: run.Error, Hint: "journalctl -u atobackupd", Since: run.FinishedAt}, second
		case run.Outcome == history.OK, end.Sub(run.StartedAt) >= settled:
			return nil, second
		}
	}
	return nil, second
}
