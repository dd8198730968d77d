package offsite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/retention"
	"github.com/atocore/atobackupd/snapshot"
)

// State is what this machine remembers of a target: which vault it is and what
// was written there. Losing it costs bytes, never correctness.
type State struct {
	VaultID string `json:"vault_id"`
	Signer  string `json:"signer,omitempty"` // the key that this machine signs with there
	Seq     int64  `json:"seq"`              // of the last push

	// Earlier are signing keys of this machine that were lost: `vault init` has
	// accepted what they signed.
	Earlier []string `json:"earlier_signers,omitempty"`

	// Newest is the newest snapshot that was ever pushed, and NewestSeq its
	// number. Retention always keeps it, so a vault without it, or without
	// anything later, was rolled back. The number of the last push would not
	// do: catching up, the newest goes first, and what came last may be pruned.
	Newest    snapshot.Stamp `json:"newest"`
	NewestSeq int64          `json:"newest_seq"`

	// Stamps are the snapshots that the vault held when it was last seen.
	Stamps []snapshot.Stamp `json:"stamps"`

	// Pushes are those of this machine that the vault should hold: what is gone
	// without a prune of ours was taken away, and what is here arrived in time,
	// whatever a copy of the vault did to its times.
	Pushes map[PushID]PushRecord `json:"pushes,omitempty"`

	// Leaving are pushes that this machine was about to remove: whichever of them is
	// gone was not taken away, also when the removal was killed before it could say so.
	Leaving []PushID `json:"leaving,omitempty"`

	// Forgotten are snapshots that an operator took out of the vault: they are not
	// sent again.
	Forgotten []snapshot.Stamp `json:"forgotten,omitempty"`

	// ForgottenPushes are their pushes, and others that an operator took out one by
	// one, for the policy document.
	ForgottenPushes []PushID `json:"forgotten_pushes,omitempty"`

	// Script is the SHA-256 of the newest recover.py that was put there.
	Script string `json:"script,omitempty"`

	// Host is the digest of the host document that was last written there.
	Host string `json:"host,omitempty"`

	// Documents are the numbers of the newest signed documents that this machine
	// wrote there, by their directory.
	Documents map[string]int64 `json:"documents,omitempty"`

	path string
}

// Signers are the keys that this machine believes there: its own and earlier ones.
func (s *State) Signers(own string) crypt.Signers {
	var signers crypt.Signers
	for _, key := range append([]string{own, s.Signer}, s.Earlier...) {
		if key != "" && !slices.Contains(signers, key) {
			signers = append(signers, key)
		}
	}
	return signers
}

// PushRecord is what is remembered of a push.
type PushRecord struct {
	Seq int64     `json:"seq"`
	At  time.Time `json:"at"`
}

// StateDir is where a target's state lies below the daemon's state directory.
func StateDir(stateDir, target string) string { return filepath.Join(stateDir, "targets", target) }

// mostState bounds what is read of a document about a target.
const mostState = 256 << 20

// LoadState reads a target's state; a new target has an empty one. A state file
// that cannot be read is an error: forgetting the pin silently would let
// another disk take the vault's place.
func LoadState(stateDir, target string) (*State, error) {
	s := &State{path: filepath.Join(StateDir(stateDir, target), "state.json")}
	data, err := fsx.ReadRegular(s.path, mostState)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(data, s)
	}
	if err != nil {
		return nil, &failure.Error{
			Op: "target state", Subject: s.path, Err: err,
			Hint: "remove the file, then run `atobackupd vault init --target " + target + "`",
		}
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
func LockTarget(
	ctx context.Context, stateDir, target, purpose string, timeout time.Duration, waiting func(string),
) (*fsx.Lock, error) {
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
	v, err := OpenVault(ctx, remote)
	switch {
	case errors.Is(err, ErrNoVault) && state.VaultID != "" && !repin:
		return nil, state.nameless(ctx, remote, create.Signer)
	case errors.Is(err, ErrNewerVault) && !repin: // whatever else is new in it would be lost
		return nil, err
	case err != nil && (repin || !errors.Is(err, ErrNoVault)) && state.holds(ctx, remote, create.Signer):
		// Nobody else has signed what lies there: only vault.json is damaged.
		if v, err = remakeVault(ctx, remote, state, create); err != nil {
			return nil, err
		}
	case errors.Is(err, ErrNoVault):
		if v, err = NewVault(ctx, remote, create); err != nil {
			return nil, err
		}
		repin = true
	case err != nil:
		return nil, err
	}
	if err := state.accepts(v.Info, create.Signer, repin); err != nil {
		return nil, err
	}
	if state.VaultID != v.Info.ID {
		// Signed by our own key: a state that was lost is found again.
		*state = State{VaultID: v.Info.ID, Signer: create.Signer, path: state.path}
		return v, state.Save()
	}
	known := len(state.Earlier)
	for _, key := range []string{v.Info.Signer, state.Signer} {
		if key != "" && key != create.Signer && !slices.Contains(state.Earlier, key) {
			state.Earlier = append(state.Earlier, key)
		}
	}
	if state.Signer == create.Signer && len(state.Earlier) == known {
		return v, nil
	}
	state.Signer = create.Signer
	return v, state.Save()
}

// CheckPinned fails where OpenPinned would, and neither makes nor remembers anything.
// own is the key that would sign there, "" where it is still to be made. The vault is
// nil where none can be read.
func CheckPinned(ctx context.Context, remote Remote, state *State, own string) (*Vault, error) {
	v, err := OpenVault(ctx, remote)
	switch {
	case err == nil:
		return v, state.accepts(v.Info, own, false)
	case errors.Is(err, ErrNoVault) && state.VaultID != "":
		return nil, state.nameless(ctx, remote, own)
	case errors.Is(err, ErrNoVault):
		return nil, refuseForeign(ctx, remote)
	case !errors.Is(err, ErrNewerVault) && state.holds(ctx, remote, own):
		return nil, nil // vault.json is damaged, and is written anew
	}
	return nil, err
}

// IsNew reports whether nothing was ever sent to the vault that is pinned: one that a
// sync has just laid holds nothing that could be checked.
func (s *State) IsNew() bool {
	return s.VaultID != "" && s.Newest == "" && len(s.Stamps) == 0 && len(s.Pushes) == 0
}

// nameless says that a pinned vault has no vault.json.
func (s *State) nameless(ctx context.Context, remote Remote, own string) error {
	if s.holds(ctx, remote, own) {
		return mismatch(fmt.Errorf("it is missing, and what vault %s held is there", s.VaultID),
			"it is made anew by: atobackupd vault init --target "+filepath.Base(filepath.Dir(s.path)))
	}
	return MissingVault(s)
}

// accepts refuses a vault that this machine must not write to: own is the key that it
// signs with. With repin a vault of ours may be another one, or that of a lost key.
func (s *State) accepts(info VaultInfo, own string, repin bool) error {
	mine, same := slices.Contains(s.Signers(own), info.Signer), s.VaultID == info.ID
	switch {
	case !mine && !(same && repin):
		return mismatch(errors.New("it belongs to another signing key: "+info.Signer),
			"if this machine replaces the one that wrote it, `atobackupd bootstrap`; "+
				"else give this host a path of its own")
	case repin:
		return nil
	case !same && s.VaultID != "":
		return OtherVault(s, info.ID)
	case same && s.Signer != own && s.Signer != "" && !slices.Contains(s.Earlier, s.Signer):
		return mismatch(errors.New("this machine's signing key is another than it was there"),
			"put the key back; to go on with the new one: atobackupd vault init, "+
				"and vault signer add on the second machine")
	}
	return nil
}

// mismatch is the error about a vault.json that is not what belongs there.
func mismatch(err error, hint string) error {
	return &failure.Error{Op: "vault", Subject: vaultFile, Kind: failure.VaultMismatch, Err: err, Hint: hint}
}

// ErrVaultAway is wrapped by the errors about a pinned vault that is not where it was.
// Most likely its disk is away. How to begin a new vault, or to go on with another,
// the runbook says and no message: it would be done on a bare mount point.
var ErrVaultAway = errors.New("the vault is not where it was")

// MissingVault says that the vault which is pinned is not there.
func MissingVault(state *State) error {
	return &failure.Error{Op: "vault", Subject: vaultFile, Kind: failure.VaultMismatch,
		Err:  away{fmt.Sprintf("there is no vault.json where vault %s was", state.VaultID)},
		Hint: "is its disk mounted?"}
}

// NoPlace says that the place of the vault which is pinned cannot be opened, and why: a
// file lies there, or its disk has gone while it was mounted.
func NoPlace(state *State, why error) error {
	return &failure.Error{Op: "vault", Subject: vaultFile, Kind: failure.VaultMismatch,
		Err:  away{fmt.Sprintf("vault %s cannot be reached: %v", state.VaultID, failure.WithoutHint(why))},
		Hint: "is its disk mounted?"}
}

// away is an ErrVaultAway in words of its own.
type away struct{ text string }

func (e away) Error() string        { return e.text }
func (e away) Is(target error) bool { return target == ErrVaultAway }

// OtherVault says that another vault lies where the pinned one was.
func OtherVault(state *State, id string) error {
	return &failure.Error{Op: "vault", Subject: vaultFile, Kind: failure.VaultMismatch,
		Err:  away{fmt.Sprintf("it is vault %s, and vault %s was expected", id, state.VaultID)},
		Hint: "is the right disk mounted?"}
}

// holds reports whether the remote holds a push of this machine that verifies.
func (s *State) holds(ctx context.Context, remote Remote, own string) bool {
	if s.VaultID == "" {
		return false
	}
	list, _, err := (&Vault{remote: remote}).ListVerified(ctx, s.Signers(own))
	return err == nil && slices.ContainsFunc(list, func(p Stored) bool { _, ours := s.Pushes[p.Push]; return ours })
}

// IsForgotten reports whether an operator took a snapshot out of the vault.
func (s *State) IsForgotten(stamp snapshot.Stamp) bool { return slices.Contains(s.Forgotten, stamp) }

// RecordListing remembers what the vault holds, and saves it when that is news.
func (s *State) RecordListing(list []Stored) error {
	var stamps []snapshot.Stamp
	for _, stored := range list {
		stamps = append(stamps, stored.Stamp)
	}
	if slices.Equal(stamps, s.Stamps) && len(stamps) > 0 {
		return nil
	}
	s.Stamps = stamps
	return s.Save()
}

// RecordPush remembers a push that is complete, and saves it.
func (s *State) RecordPush(p Pushed) error {
	s.Seq = p.Seq
	if p.Stamp >= s.Newest {
		s.Newest, s.NewestSeq = p.Stamp, p.Seq
	}
	if p.Push != "" {
		if s.Pushes == nil {
			s.Pushes = make(map[PushID]PushRecord)
		}
		s.Pushes[p.Push] = PushRecord{Seq: p.Seq, At: time.Now().UTC().Truncate(time.Second)}
	}
	return s.Save()
}

// RecordLeaving remembers pushes that are going to be removed, and saves them.
func (s *State) RecordLeaving(pushes []PushID) error {
	before := len(s.Leaving)
	for _, push := range pushes {
		if !slices.Contains(s.Leaving, push) {
			s.Leaving = append(s.Leaving, push)
		}
	}
	if len(s.Leaving) == before {
		return nil
	}
	return s.Save()
}

// SettleLeaving forgets the pushes that were going to be removed and are gone, and
// that the others were to go.
func (s *State) SettleLeaving(survey *Survey) error {
	if len(s.Leaving) == 0 {
		return nil
	}
	s.forget(func(push PushID) bool {
		_, signed := survey.objects[push.object(sigSuffix)]
		return slices.Contains(s.Leaving, push) && !signed
	})
	s.Leaving = nil
	return s.Save()
}

// RecordRemoved forgets pushes that this machine has removed, or has given up,
// and saves it when that is news. When the newest one is among them, the newest is
// the next one that is left: its absence is no roll-back.
func (s *State) RecordRemoved(gone func(PushID) bool) error {
	if !s.forget(gone) {
		return nil
	}
	return s.Save()
}

// forget is RecordRemoved without saving; it reports whether there was news.
func (s *State) forget(gone func(PushID) bool) bool {
	before, newest := len(s.Pushes), false
	maps.DeleteFunc(s.Pushes, func(push PushID, record PushRecord) bool {
		newest = newest || gone(push) && record.Seq == s.NewestSeq
		return gone(push)
	})
	if newest {
		s.Newest, s.NewestSeq = "", 0
		for push, record := range s.Pushes {
			stamp, ok := push.Stamp()
			if ok && (stamp > s.Newest || stamp == s.Newest && record.Seq > s.NewestSeq) {
				s.Newest, s.NewestSeq = stamp, record.Seq
			}
		}
	}
	return len(s.Pushes) < before
}

// TakeUp pins a vault that another machine began and this one goes on with, and
// saves it.
func (s *State) TakeUp(vaultID, signer string, survey *Survey) error {
	s.VaultID, s.Signer = vaultID, signer
	s.Adopt(survey)
	for _, p := range survey.All() {
		s.Seq = max(s.Seq, p.Seq)
		if p.Stamp >= s.Newest {
			s.Newest, s.NewestSeq = p.Stamp, p.Seq
		}
	}
	return s.RecordListing(survey.Current)
}

// Adopt takes over what an older version of this program, or a state that was
// lost, has not recorded: proven pushes that arrived in time.
func (s *State) Adopt(survey *Survey) {
	if s.Pushes == nil {
		s.Pushes = make(map[PushID]PushRecord)
	}
	for _, p := range survey.Current {
		if _, known := s.Pushes[p.Push]; !known && p.Uploaded.Sub(p.Stamp.Time()) <= lateArrival {
			s.Pushes[p.Push] = PushRecord{Seq: p.Seq, At: p.Uploaded.UTC()}
		}
	}
}

// CheckSeq compares the highest sequence number in the vault with that of the
// newest snapshot that was written there: lower means rolled back, or deleted
// behind our back. A push that is damaged is damaged, and rolls nothing back. The
// error is of kind Stale.
func (s *State) CheckSeq(survey *Survey) error {
	highest := int64(0)
	for _, stored := range survey.Current {
		highest = max(highest, stored.Seq)
	}
	for push, record := range s.Pushes {
		if record.Seq > highest && survey.holdsOf(push) {
			highest = record.Seq
		}
	}
	if highest >= s.NewestSeq {
		return nil
	}
	return &failure.Error{Op: "vault", Subject: s.VaultID, Kind: failure.Stale,
		Err: fmt.Errorf(
			"the highest number in it is %d, and %s was written there as number %d: "+
				"it was rolled back, or snapshots were deleted",
			highest, s.Newest, s.NewestSeq,
		),
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
	return retention.Snapshot{
		Stamp: string(s.Stamp), Time: s.Stamp.Time(), Kind: string(s.Kind), Full: s.Full, Valid: true,
		Pinned: s.Pinned, Suspect: len(s.Suspect) > 0,
	}
}

// MissingSnapshots decides which local snapshots a vault should get: the valid ones that
// its retention would keep and that it does not hold, newest first, so that the
// most valuable arrives before the lid closes.
func MissingSnapshots(
	local []retention.Snapshot, stored []Stored, policy retention.Policy, now time.Time,
) []snapshot.Stamp {
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
