package app

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/notify"
)

// refusedFile lies in state_dir from a start of the daemon that was refused until
// one goes well.
const refusedFile = "start-refused.json"

// refusedStart is why a daemon did not start, and when somebody was last told.
type refusedStart struct {
	Since   time.Time `json:"since"`         // the first start that was refused for this reason
	At      time.Time `json:"at"`            // the last one
	Told    time.Time `json:"told,omitzero"` // an address took the message
	Message string    `json:"message"`       // why, without what to do
	Hint    string    `json:"hint"`          // what to do
}

// NoteRefusedStart records in stateDir that the daemon did not start, and tells the
// last good addresses: once, and again after a day, however often the service manager
// starts it. Nothing is recorded, and nobody told, where stateDir is missing, or where
// it is root who starts the daemon and somebody else could lay a link in the way.
func NoteRefusedStart(ctx context.Context, stateDir, host string, refusal error, now time.Time) error {
	if _, err := os.Stat(stateDir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if os.Geteuid() == 0 {
		offences, err := tree.Offences(filepath.Dir(stateDir), tree.Trusted(stateDir))
		if err != nil || len(offences) > 0 {
			return err
		}
	}
	r := refusedStart{Since: now, At: now, Message: failure.WithoutHint(refusal).Error(),
		Hint: cmp.Or(failure.HintOf(refusal), "atobackupd config check")}
	before, err := readRefusedStart(stateDir)
	if err == nil && before != nil && before.Message == r.Message {
		r.Since, r.Told = before.Since, before.Told
	}
	err = r.write(stateDir) // before anybody is told: that takes a while
	if now.Sub(r.Told).Abs() < 24*time.Hour {
		return err
	}
	outbox, addressErr := keptAddresses(stateDir)
	if addressErr != nil || outbox.Len() == 0 {
		return errors.Join(err, addressErr)
	}
	title := ": the daemon does not start"
	if failure.KindOf(refusal) == failure.Config {
		title = ": the configuration is refused"
	}
	told, sendErr := outbox.Send(ctx, now, notify.Message{
		Title: "atobackupd on " + host + title, Level: notify.Critical,
		Body: "CRITICAL config: the daemon does not start, and no backup is taken: " + r.Message + "\nNext: " + r.Hint})
	if told {
		r.Told = now
		err = errors.Join(err, r.write(stateDir))
	}
	return errors.Join(err, sendErr)
}

func (r refusedStart) write(stateDir string) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return fsx.WriteFile(filepath.Join(stateDir, refusedFile), append(data, '\n'), 0o600)
}

// readRefusedStart returns the start that was refused last; nil when none was since a
// good one.
func readRefusedStart(stateDir string) (*refusedStart, error) {
	data, err := fsx.ReadRegular(filepath.Join(stateDir, refusedFile), mostDocument)
	if fsx.IsMissing(err) {
		return nil, nil
	}
	r := new(refusedStart)
	if err == nil {
		err = json.Unmarshal(data, r)
	}
	if err != nil {
		return nil, fmt.Errorf("why the daemon did not start: %w", err)
	}
	return r, nil
}

// RecordRefusedStart puts a start that was refused among the open alarms, with when
// people were told of it, so that they are also told when it is over. It reports
// whether there was one within the last minute.
func (a *App) RecordRefusedStart(ctx context.Context, now time.Time) (justNow bool, err error) {
	r, err := readRefusedStart(a.Config.StateDir)
	if r == nil {
		return false, err
	}
	alarm, _, err := a.history.Raise(ctx, health.Alarm{Leg: health.ConditionConfig, Level: health.LevelCritical,
		Message: r.Message, Hint: r.Hint, Since: r.Since})
	if err == nil && !r.Told.IsZero() {
		err = a.history.Notified(ctx, alarm.ID, r.Told)
	}
	return now.Sub(r.At).Abs() < time.Minute, err
}

// NoteGoodStart forgets that starts were refused before.
func (a *App) NoteGoodStart(ctx context.Context, now time.Time) error {
	_, err := a.RecordRefusedStart(ctx, now)
	removeErr := os.Remove(filepath.Join(a.Config.StateDir, refusedFile))
	if errors.Is(removeErr, fs.ErrNotExist) {
		removeErr = nil
	}
	return errors.Join(err, removeErr)
}

// refusedStartFact says that no daemon runs because its last start was refused. One
// that was refused while another ran is no reason.
func (a *App) refusedStartFact(l Life, alive bool) *health.Trouble {
	r, err := readRefusedStart(a.Config.StateDir)
	if err != nil {
		return trouble(err)
	}
	if alive || r == nil || r.At.Before(l.Beat) {
		return nil
	}
	return &health.Trouble{Message: "the last start of the daemon was refused: " + r.Message, Hint: r.Hint,
		Since: r.Since}
}
