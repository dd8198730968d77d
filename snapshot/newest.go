package snapshot

import "time"

// Newest returns the newest snapshot of list that counts at now, or nil when
// none does; with full, the newest of those that hold Chroma. It is what
// `latest` means everywhere: commands, status, metrics and the dashboard all
// ask this function.
func Newest(list []Snapshot, now time.Time, full bool) *Snapshot {
	var newest *Snapshot
	for i := range list {
		s := &list[i]
		if s.Counts(now) && (s.Full || !full) && (newest == nil || s.Stamp > newest.Stamp) {
			newest = s
		}
	}
	return newest
}

// Ahead returns the earliest snapshot of list that would count at now but for its
// stamp, which lies in the future, or nil; with full, of those that hold Chroma. It is
// whole, and can be restored by its stamp.
func Ahead(list []Snapshot, now time.Time, full bool) *Snapshot {
	var first *Snapshot
	for i := range list {
		s := &list[i]
		at := s.Stamp.Time()
		if at.After(now) && s.Counts(at) && (s.Full || !full) && (first == nil || s.Stamp < first.Stamp) {
			first = s
		}
	}
	return first
}

// Counts reports whether the snapshot counts at now as a point in time to go
// back to: it is valid, not found damaged, nobody else can change it, and it is
// Eligible.
func (s *Snapshot) Counts(now time.Time) bool {
	return s.IsValid() && !s.Foreign && Eligible(s.Stamp, s.Kind, now)
}

// Eligible reports whether a snapshot of this stamp and kind may count at now:
// its kind holds slots, and it does not lie in the future. A stamp of the
// future comes from a clock that was wrong: the rows behind it may be older than
// those of any other snapshot, and it would hide that no new ones come.
func Eligible(stamp Stamp, kind Kind, now time.Time) bool {
	return kind.HoldsSlots() && !stamp.Time().After(now)
}
