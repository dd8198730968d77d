package offsite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/snapshot"
)

// Survey is one look at a vault that reads no pack: which pushes there are, what
// they need, and what of that lies there.
type Survey struct {
	Current    []Stored // the newest proven push of each stamp, oldest first
	Superseded []Stored // proven ones that a later push of their stamp replaces
	Unproven   []Unproven
	Unsigned   []PushID // everything but the signature is there
	Warnings   []string

	packs   map[string]Entry  // in packs/, and in trash/ what packs/ lacks; by id
	objects map[string]Entry  // in snapshots/, by name from the vault's root
	needs   map[PushID]sums   // of the proven pushes
	pushes  map[PushID]Stored // the proven ones
	covered []Finding         // what somebody hid or wrote over, and the service still has
}

// Unproven is a signed push that does not prove to be what a trusted signer
// signed. It counts for nothing.
type Unproven struct {
	Stored
	Err error
}

// Survey lists the vault and proves its pushes, at three small reads a push.
func (v *Vault) Survey(ctx context.Context, signers crypt.Signers) (*Survey, error) {
	s := &Survey{objects: make(map[string]Entry), needs: make(map[PushID]sums), pushes: make(map[PushID]Stored)}
	entries, err := v.list(ctx, snapshotsDir)
	if err != nil {
		return nil, err
	}
	var signed []Stored
	for _, e := range entries {
		if !e.IsFile() {
			continue // it is as good as missing, and verify names it
		}
		s.objects[snapshotsDir+"/"+e.Name] = e
		if name, ok := strings.CutSuffix(e.Name, sigSuffix); ok {
			if stamp, isPush := PushID(name).Stamp(); isPush {
				signed = append(signed, Stored{Push: PushID(name), Info: Info{Stamp: stamp}, Uploaded: e.MTime})
			}
		}
	}
	if err := s.prove(ctx, v, signed, signers); err != nil {
		return nil, err
	}
	s.Unsigned = unsigned(s.objects)
	// Packs come last: what a push has named by now must be among them.
	s.packs, err = v.allPacks(ctx)
	s.covered = s.tampering(v)
	return s, err
}

// prove sorts the signed pushes by whether they hold.
func (s *Survey) prove(ctx context.Context, v *Vault, signed []Stored, signers crypt.Signers) error {
	var mu sync.Mutex
	faults := make(map[PushID]error)
	proven, _, err := forEachPush(ctx, signed, func(ctx context.Context, p *Stored) error {
		needed, info, err := v.proof(ctx, p.Push, signers)
		if err == nil {
			p.Info = info
		}
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			faults[p.Push] = err
		} else {
			s.needs[p.Push] = needed
		}
		return err
	})
	if err != nil {
		return err
	}
	s.Current = newest(proven)
	current := make(map[PushID]bool)
	for _, p := range s.Current {
		current[p.Push] = true
	}
	for _, p := range proven {
		s.pushes[p.Push] = p
		if !current[p.Push] {
			s.Superseded = append(s.Superseded, p)
		}
	}
	for _, p := range signed {
		if err := faults[p.Push]; err != nil {
			s.Unproven = append(s.Unproven, Unproven{p, err})
			s.Warnings = append(s.Warnings, fmt.Sprintf("%s: not counted: %v", p.Push, err))
		}
	}
	return nil
}

// unsigned returns the pushes that lack nothing but their signature.
func unsigned(objects map[string]Entry) (list []PushID) {
	for name := range objects {
		push, ok := strings.CutSuffix(strings.TrimPrefix(name, snapshotsDir+"/"), sumsSuffix)
		id := PushID(push)
		if _, isPush := id.Stamp(); !ok || !isPush {
			continue
		}
		_, sig := objects[id.object(sigSuffix)]
		_, manifest := objects[id.object(manifestSuffix)]
		_, info := objects[id.object(infoSuffix)]
		if !sig && manifest && info {
			list = append(list, id)
		}
	}
	slices.Sort(list)
	return list
}

// All returns every proven push, by stamp and number.
func (s *Survey) All() []Stored {
	all := append(slices.Clone(s.Current), s.Superseded...)
	slices.SortFunc(
		all, func(a, b Stored) int { return cmp.Or(cmp.Compare(a.Stamp, b.Stamp), cmp.Compare(a.Seq, b.Seq)) },
	)
	return all
}

// NewestFullAndNewest returns what a new machine needs: the newest full snapshot
// that counts and, where it is another, the newest one.
func (s *Survey) NewestFullAndNewest(now time.Time) (list []Stored) {
	var full []Stored
	for _, p := range s.Current {
		if p.Full {
			full = append(full, p)
		}
	}
	newestFull, err := latest(full, now)
	if err == nil {
		list = append(list, newestFull)
	}
	newest, err := latest(s.Current, now)
	if err == nil && newest.Push != newestFull.Push {
		list = append(list, newest)
	}
	return list
}

// IsSuperseded reports whether a later push of its stamp has replaced a push.
func (s *Survey) IsSuperseded(push PushID) bool {
	return slices.ContainsFunc(s.Superseded, func(p Stored) bool { return p.Push == push })
}

// list is Remote.List for a directory that need not be there.
func (v *Vault) list(ctx context.Context, dir string) ([]Entry, error) {
	entries, err := v.remote.List(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return entries, err
}

// allPacks lists the packs of packs/ and, of those that packs/ lacks, trash/.
// trash/ is listed first: a pack that is moved back meanwhile is in one of the
// two lists at least.
func (v *Vault) allPacks(ctx context.Context) (map[string]Entry, error) {
	packs := make(map[string]Entry)
	for _, dir := range []string{trashDir, packsDir, trashDir} {
		entries, err := v.list(ctx, dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			id, ok := packID(packsDir + "/" + e.Name)
			if _, there := packs[id]; ok && e.IsFile() && (!there || dir == packsDir) {
				packs[id] = e
			}
		}
	}
	return packs, nil
}

// size returns the listed size of an object, and whether it is there.
func (s *Survey) size(name string) (int64, bool) {
	if id, isPack := packID(name); isPack {
		e, ok := s.packs[id]
		return e.Size, ok
	}
	e, ok := s.objects[name]
	return e.Size, ok
}

// neededBy returns, for each object that the given pushes need, those pushes.
func (s *Survey) neededBy(pushes []Stored) map[string][]Stored {
	needed := make(map[string][]Stored)
	for _, p := range pushes {
		for name := range s.needs[p.Push] {
			needed[name] = append(needed[name], p)
		}
	}
	return needed
}

// Findings compares the listing with what the current pushes need and with what
// this machine has pushed. It reads nothing. prunes says that nobody else removes
// snapshots there: then one that is gone was taken away.
func (s *Survey) Findings(state *State, checks *Checks, prunes bool) (findings []Finding) {
	needed := s.neededBy(s.Current)
	for _, name := range slices.Sorted(maps.Keys(needed)) {
		size, there := s.size(name)
		known := checks.size(name)
		switch {
		case !there:
			findings = append(
				findings,
				Finding{Object: name, Listed: true, What: "it is missing", Stamps: stamps(needed[name])},
			)
		case known > 0 && known != size:
			findings = append(
				findings,
				Finding{
					Object: name, Listed: true, What: fmt.Sprintf("it has %d bytes of %d", size, known),
					Stamps: stamps(needed[name]),
				},
			)
		case size == 0:
			findings = append(
				findings,
				Finding{Object: name, Listed: true, What: "it is empty", Stamps: stamps(needed[name])},
			)
		}
	}
	for _, f := range s.lostPushes(state) {
		if prunes || !f.Gone {
			findings = append(findings, f)
		}
	}
	return append(findings, s.covered...)
}

// lostPushes finds what this machine has pushed and cannot prove any more,
// unless another push of the stamp is there.
func (s *Survey) lostPushes(state *State) (findings []Finding) {
	have := make(map[snapshot.Stamp]bool)
	for _, p := range s.Current {
		have[p.Stamp] = true
	}
	broken := make(map[PushID]error)
	for _, p := range s.Unproven {
		broken[p.Push] = p.Err
	}
	for _, push := range slices.Sorted(maps.Keys(state.Pushes)) {
		stamp, ok := push.Stamp()
		if !ok || have[stamp] || slices.Contains(state.Leaving, push) {
			continue
		}
		f := Finding{Object: push.object(sumsSuffix), Listed: true, Stamps: []snapshot.Stamp{stamp}}
		_, sums := s.objects[push.object(sumsSuffix)]
		_, sig := s.objects[push.object(sigSuffix)]
		_, manifest := s.objects[push.object(manifestSuffix)]
		switch {
		case broken[push] != nil:
			f.Object, f.What = s.damagedObject(push, broken[push]), reason(broken[push])
		case sig:
			continue // proven
		case sums:
			f.Object, f.What = push.object(sigSuffix), "it is missing"
		case manifest:
			f.What = "it is missing"
		default:
			f.Object, f.What, f.Gone = push.object(
				sigSuffix,
			), "the whole snapshot is gone: the vault was rolled back, or somebody deleted it", true
		}
		findings = append(findings, f)
	}
	return findings
}

// holdsOf reports whether anything of a push lies there.
func (s *Survey) holdsOf(push PushID) bool {
	for _, suffix := range []string{sumsSuffix, sigSuffix, manifestSuffix, infoSuffix} {
		if _, ok := s.objects[push.object(suffix)]; ok {
			return true
		}
	}
	return false
}

// stamps returns the stamps of pushes, each once, oldest first.
func stamps(pushes []Stored) (list []snapshot.Stamp) {
	for _, p := range pushes {
		list = append(list, p.Stamp)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// damagedObject returns the object of a push that an error is about: the one that
// it names, else the one that the listing lacks, else the one that is signed.
func (s *Survey) damagedObject(push PushID, err error) string {
	var f *failure.Error
	if errors.As(err, &f) && strings.HasPrefix(f.Subject, snapshotsDir+"/") {
		return f.Subject
	}
	for _, suffix := range []string{infoSuffix, sigSuffix, manifestSuffix} {
		if _, ok := s.objects[push.object(suffix)]; !ok {
			return push.object(suffix)
		}
	}
	return push.object(sumsSuffix)
}
