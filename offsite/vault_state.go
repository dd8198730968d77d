package offsite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/retention"
	"github.com/atocore/atobackupd/snapshot"
)

// State is what this machine remembers of a target: which vault it is and what
// was written there. Losing it costs bytes, never correctness.
type State struct {
	VaultID string `json:"vault_id"`
	Seq     int64  `json:"seq"` // of the last push

	// Newest is the newest snapshot that was ever pushed, and NewestSeq its
	// number. Retention always keeps it, so a vault without it, or without
	// anything later, was rolled back. The number of the last push would not
	// do: catching up, the newest goes first, and what came last may be pruned.
	Newest    snapshot.Stamp `json:"newest"`
	NewestSeq int64          `json:"newest_seq"`

	// Stamps are the snapshots that the vault held when it was last seen.
	Stamps []snapshot.Stamp `json:"stamps"`

	path string
}

// StateDir is where a target's state lies below the daemon's state directory.
func StateDir(stateDir, target string) string { return filepath.Join(stateDir, "targets", target) }

// LoadState reads a target's state; a new target has an empty one. A state file
// that cannot be read is an error: forgetting the pin silently would let
// another disk take the vault's place.
func LoadState(stateDir, target string) (*State, error) {
	s := &State{path: filepath.Join(StateDir(stateDir, target), "state.json")}
	data, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(data, s)
	}
	if err != nil {
		return nil, &failure.Error{Op: "target state", Subject: s.path, Err: err, Hint: "remove the file, then run `atobackupd vault init --target " + target + "`"}
	}
	return s, nil
}

// Save writes the state durably.
func (s *State) Save() error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := fsx.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return err
	}
	return fsx.WriteFile(s.path, append(data, '\n'), 0o600)
}

// LockTarget takes the lock of one target, which pushes and prunes of it hold.
func LockTarget(ctx context.Context, stateDir, target, purpose string, timeout time.Duration, waiting func(string)) (*fsx.Lock, error) {
	dir := StateDir(stateDir, target)
	if err := fsx.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return fsx.LockFile(ctx, filepath.Join(dir, ".lock"), purpose, timeout, waiting)
}

// OpenPinned opens the vault that state remembers, or makes one where the
// target is new and empty. A vault that is missing or another one than
// remembered is refused with kind VaultMismatch: an unmounted disk must not be
// filled, and somebody else's vault not be mixed up with ours. repin accepts
// what is there instead, as `vault init` does.
func OpenPinned(ctx context.Context, remote Remote, state *State, create VaultInfo, repin bool) (*Vault, error) {
	refuse := func(err error, hint string) error {
		return &failure.Error{Op: "vault", Subject: create.Host, Kind: failure.VaultMismatch, Err: err, Hint: hint}
	}
	v, err := OpenVault(ctx, remote)
	switch {
	case errors.Is(err, ErrNoVault) && state.VaultID != "" && !repin:
		return nil, refuse(fmt.Errorf("there is no vault.json where vault %s was", state.VaultID),
			"is its disk mounted? to begin a new vault there: atobackupd vault init")
	case errors.Is(err, ErrNoVault):
		if v, err = NewVault(ctx, remote, create); err != nil {
			return nil, err
		}
		repin = true
	case err != nil:
		return nil, err
	}
	if v.Info.Signer != create.Signer {
		return nil, refuse(errors.New("it belongs to another signing key: "+v.Info.Signer),
			"give this host a path of its own; the old vault stays readable with its key")
	}
	switch {
	case state.VaultID == v.Info.ID:
		return v, nil
	case state.VaultID != "" && !repin:
		return nil, refuse(fmt.Errorf("it is vault %s, and vault %s was expected", v.Info.ID, state.VaultID),
			"is the right disk mounted? to accept it: atobackupd vault init")
	}
	// Signed by our own key: a state that was lost is found again.
	*state = State{VaultID: v.Info.ID, path: state.path}
	return v, state.Save()
}

// RecordListing remembers what the vault holds, and saves it when that is news.
func (s *State) RecordListing(list []Stored) error {
	var stamps []snapshot.Stamp
	for _, stored := range list {
		stamps = append(stamps, stored.Stamp)
	}
	if slices.Equal(stamps, s.Stamps) {
		return nil
	}
	s.Stamps = stamps
	return s.Save()
}

// RecordPush remembers a push that is complete, and saves it.
func (s *State) RecordPush(stamp snapshot.Stamp, seq int64) error {
	s.Seq = seq
	if stamp >= s.Newest {
		s.Newest, s.NewestSeq = stamp, seq
	}
	return s.Save()
}

// CheckSeq compares the highest sequence number in the vault with that of the
// newest snapshot that was written there: lower means rolled back, or deleted
// behind our back. The error is of kind Stale.
func (s *State) CheckSeq(list []Stored) error {
	highest := int64(0)
	for _, stored := range list {
		highest = max(highest, stored.Seq)
	}
	if highest >= s.NewestSeq {
		return nil
	}
	return &failure.Error{Op: "vault", Subject: s.VaultID, Kind: failure.Stale,
		Err:  fmt.Errorf("the highest number in it is %d, and %s was written there as number %d: it was rolled back, or snapshots were deleted", highest, s.Newest, s.NewestSeq),
		Hint: "find out what happened on the target; pushing goes on"}
}

// NextSeq returns the number of the next push: above all that were seen or
// written.
func (s *State) NextSeq(list []Stored) int64 {
	next := s.Seq
	for _, stored := range list {
		next = max(next, stored.Seq)
	}
	return next + 1
}

// planned is a snapshot of the vault as retention sees it.
func (s *Stored) planned() retention.Snapshot {
	return retention.Snapshot{Stamp: string(s.Stamp), Time: s.Stamp.Time(), Kind: string(s.Kind), Full: s.Full, Valid: true, Pinned: s.Pinned}
}

// MissingSnapshots decides which local snapshots a vault should get: the valid ones that
// its retention would keep and that it does not hold, newest first, so that the
// most valuable arrives before the lid closes.
func MissingSnapshots(local []retention.Snapshot, stored []Stored, policy retention.Policy, now time.Time) []snapshot.Stamp {
	all := make(map[string]retention.Snapshot)
	for _, s := range stored {
		all[string(s.Stamp)] = s.planned()
	}
	missing := make(map[string]bool)
	for _, s := range local {
		if _, there := all[s.Stamp]; !there && s.Valid && !s.Time.After(now) {
			s.InUse = "" // somebody reads it here; that is no reason to keep it there
			all[s.Stamp] = s
			missing[s.Stamp] = true
		}
	}
	var plan []retention.Snapshot
	for _, s := range all {
		plan = append(plan, s)
	}
	var wanted []snapshot.Stamp
	for _, verdict := range slices.Backward(retention.Plan(plan, policy, now).Verdicts) {
		if verdict.Keep && missing[verdict.Stamp] {
			wanted = append(wanted, snapshot.Stamp(verdict.Stamp))
		}
	}
	return wanted
}
