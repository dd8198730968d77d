package app

import (
	"context"
	"encoding/json"
	"errors"
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

// HoldLife takes the lock that says that a daemon runs. A second one is refused,
// and remembered, so that people are told.
func (a *App) HoldLife(ctx context.Context) (*fsx.Lock, error) {
	if err := fsx.MkdirAll(a.Config.StateDir, 0o700); err != nil {
		return nil, err
	}
	lock, err := fsx.LockFile(ctx, filepath.Join(a.Config.StateDir, lifeLock), "the daemon", 2*time.Second, nil)
	if failure.KindOf(err) != failure.Locked {
		return lock, err
	}
	err = &failure.Error{Op: "run", Subject: a.Config.StateDir, Kind: failure.Locked,
		Err:  errors.New("another daemon runs here"),
		Hint: "stop it first: systemctl stop atobackupd"}
	now := time.Now()
	id, beginErr := a.history.Begin(ctx, history.Run{Job: DaemonJob, Kind: secondDaemon, StartedAt: now})
	if beginErr == nil {
		beginErr = a.history.Finish(ctx, history.Run{ID: id, FinishedAt: now, Outcome: history.Failed,
			Error: "a second daemon was started beside the one that runs, and refused"})
	}
	a.NoteHistoryError(beginErr)
	return nil, err
}

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
	data, err := os.ReadFile(filepath.Join(a.Config.StateDir, lifeFile))
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
	if data, err := os.ReadFile(filepath.Join(a.Config.StateDir, lifeFile)); err == nil {
		_ = json.Unmarshal(data, &l) // half a file says nothing
	}
	return l
}

// isLocked reports whether another process holds a lock, without taking it.
func isLocked(path string) (bool, error) {
	f, err := os.Open(path)
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
	case alive && now.Sub(l.Beat) > hungAfter:
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
	runs, err := a.history.Runs(ctx, DaemonJob, time.Time{}, 16)
	a.NoteHistoryError(err)
	for _, run := range runs {
		if run.Kind == secondDaemon {
			if second == nil && now.Sub(run.FinishedAt) < settled {
				second = &health.Trouble{Message: run.Error,
					Hint: "find out who starts it: systemctl status atobackupd", Since: run.FinishedAt}
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
