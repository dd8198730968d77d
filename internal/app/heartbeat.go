package app

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/internal/notify"
)

// jobRun is a run that is under way.
type jobRun struct {
	history.Run
	// begun is called once the work has really begun: it has its lock, and the
	// other side answers. Until then heartbeats hear nothing.
	begun func()
	// leg is the leg that the run counts for; work that is only a part of what the leg
	// stands for sets it to "".
	leg string
}

// tailLines is how many of the last log lines a heartbeat carries.
const tailLines = 20

// newRunID makes the id that ties the signals of one run together: a UUID, as
// healthchecks.io wants it.
func newRunID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails: crypto/rand ends the process instead
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// beatText is the body of a signal at the end of a run: why it failed, how long
// it took, and what was logged last.
func (a *App) beatText(why string, started time.Time, took time.Duration) string {
	var lines []string
	if why != "" {
		lines = append(lines, why)
	}
	lines = append(lines, "took "+took.Round(time.Millisecond).String())
	if tail := a.process.tail; tail != nil {
		lines = append(lines, tail.since(started)...)
	}
	return strings.Join(lines, "\n")
}

// JobFailed tells the heartbeats of a leg that the daemon's job has failed for
// good: the scheduler starts it no more by itself.
func (a *App) JobFailed(leg string, err error, took time.Duration) {
	a.process.mu.Lock()
	id := a.process.runIDs[leg]
	a.process.mu.Unlock()
	a.beatLegs([]string{leg}, notify.Beat{Signal: notify.Fail, RunID: id,
		Body: a.beatText(err.Error(), time.Now().Add(-took), took)})
}

// SetPulse says who is told of heartbeats from now on.
func (a *App) SetPulse(pulse func(leg string, b notify.Beat)) {
	a.process.mu.Lock()
	defer a.process.mu.Unlock()
	a.process.pulse = pulse
}

// lastWord is how long a command waits at its end for heartbeats to arrive.
const lastWord = 3 * time.Second

// beatFromCommand makes a command call the heartbeats: what it does counts for a leg as
// what the daemon does.
func (a *App) beatFromCommand() {
	addresses := a.Config.Notify.Heartbeats
	if len(addresses) == 0 {
		return
	}
	h := notify.StartHeartbeats(addresses, func(_ string, err error) {
		if err != nil {
			a.Options.Log.Warn(err.Error())
		}
	})
	a.SetPulse(h.Beat)
	a.closers = append(a.closers, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), lastWord)
		defer cancel()
		_ = h.Stop(ctx) // what did not arrive was logged, and the work is done
		return nil
	})
}

// beatLegs sends a heartbeat to each leg that a run counts for.
func (a *App) beatLegs(legs []string, b notify.Beat) {
	a.process.mu.Lock()
	pulse := a.process.pulse
	for _, leg := range legs {
		a.process.runIDs[leg] = b.RunID
	}
	a.process.mu.Unlock()
	if pulse == nil {
		return
	}
	for _, leg := range legs {
		pulse(leg, b)
	}
}
