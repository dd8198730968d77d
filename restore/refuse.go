package restore

import (
	"errors"
	"fmt"

	"github.com/atocore/atobackupd/internal/failure"
)

// refusal is the one shape of "nothing was touched, because".
func refusal(stamp string, kind failure.Kind, why error, hint string) *failure.Error {
	return &failure.Error{Op: "restore refused", Subject: stamp, Kind: kind, Err: why, Hint: hint}
}

func (r *Request) refuse(why error, hint string) *failure.Error {
	return refusal(string(r.Stamp), failure.Refused, why, hint)
}

// RefusePending returns an error of kind Refused while the journal of a restore
// stands in one of the directories: then nothing may be taken, pruned or
// restored.
func RefusePending(dirs ...string) error {
	j, err := PendingJournal(dirs...)
	if err != nil || j == nil {
		return err
	}
	return j.pending()
}

func (j *Journal) pending() error {
	why, hint := "its restore was interrupted", "finish it with `atobackupd restore --resume`, or put everything back with `atobackupd restore --abort`"
	switch j.Phase {
	case PhaseCommitted:
		why, hint = "it was restored, and the old copies are not removed yet", "run `atobackupd restore --resume`"
	case PhaseAborted:
		why, hint = "its restore was taken back, and the copies are not removed yet", "run `atobackupd restore --abort`"
	}
	return &failure.Error{Op: "restore pending", Subject: string(j.Stamp), Kind: failure.Refused, Err: errors.New(why), Hint: hint}
}

// openIn says who has what open.
func openIn(h Holder) error {
	return fmt.Errorf("%s is open in pid %d (%s)", h.What, h.PID, h.Command)
}

const stopHint = "stop it first, e.g. docker compose down"
