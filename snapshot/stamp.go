package snapshot

import (
	"fmt"
	"slices"
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

// AskedKinds returns the kinds that a person may give a new snapshot.
func AskedKinds() []Kind { return []Kind{Daily, Weekly, Monthly, Manual} }

// Kinds returns all kinds.
func Kinds() []Kind { return append(AskedKinds(), PreRestore, Adopted) }

// ParseKind accepts one of AskedKinds.
func ParseKind(s string) (Kind, error) {
	if k := Kind(s); slices.Contains(AskedKinds(), k) {
		return k, nil
	}
	return "", &failure.Error{Op: "kind", Subject: fmt.Sprintf("%q", s), Kind: failure.Usage,
		Err: fmt.Errorf("not a kind of snapshot"), Hint: "use daily, weekly, monthly or manual"}
}

// Full reports whether snapshots of this kind hold the vector store where nobody says
// otherwise.
func (k Kind) Full() bool { return k == Weekly || k == Monthly }

// HoldsSlots reports whether retention may count a snapshot of this kind as a
// daily, weekly or monthly one, and `latest` may mean it. A kind that is not known, as
// a later version may write it, holds none.
func (k Kind) HoldsSlots() bool { return k != PreRestore && slices.Contains(Kinds(), k) }
