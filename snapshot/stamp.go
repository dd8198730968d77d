package snapshot

import (
	"fmt"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
)

// Stamp names a snapshot: the UTC second in which it was begun, as
// YYYYMMDDTHHMMSSZ. Stamps sort as text in the order of time.
type Stamp string

const stampLayout = "20060102T150405Z"

// StampOf returns the stamp of the second that holds t.
func StampOf(t time.Time) Stamp { return Stamp(t.UTC().Format(stampLayout)) }

// ParseStamp accepts exactly the form YYYYMMDDTHHMMSSZ of a real date.
func ParseStamp(s string) (Stamp, error) {
	t, err := time.Parse(stampLayout, s)
	if err != nil || t.Format(stampLayout) != s {
		return "", &failure.Error{Op: "stamp", Subject: fmt.Sprintf("%q", s), Kind: failure.Usage,
			Err: fmt.Errorf("a stamp looks like 20260407T060000Z"), Hint: "see `atobackupd list`"}
	}
	return Stamp(s), nil
}

// Time returns the instant that the stamp names; the zero time for a Stamp that
// was not made by StampOf or ParseStamp.
func (s Stamp) Time() time.Time {
	t, err := time.Parse(stampLayout, string(s))
	if err != nil {
		return time.Time{}
	}
	return t
}

// Kind says why a snapshot was taken.
type Kind string

// The kinds. Adopted is what AtoCore's own tools made.
const (
	Daily      Kind = "daily"
	Weekly     Kind = "weekly"
	Monthly    Kind = "monthly"
	Manual     Kind = "manual"
	PreRestore Kind = "pre-restore"
	Adopted    Kind = "adopted"
)

// ParseKind accepts the kinds that a person may give a new snapshot.
func ParseKind(s string) (Kind, error) {
	switch k := Kind(s); k {
	case Daily, Weekly, Monthly, Manual:
		return k, nil
	}
	return "", &failure.Error{Op: "kind", Subject: fmt.Sprintf("%q", s), Kind: failure.Usage,
		Err: fmt.Errorf("not a kind of snapshot"), Hint: "use daily, weekly, monthly or manual"}
}

// HoldsSlots reports whether retention may count a snapshot of this kind as a
// daily, weekly or monthly one, and `latest` may mean it.
func (k Kind) HoldsSlots() bool { return k != PreRestore }
