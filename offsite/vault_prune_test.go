package offsite_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/retention"
	"github.com/atocore/atobackupd/snapshot"
)

const day = 24 * time.Hour

// keepOne keeps the newest day and nothing else.
var keepOne = retention.Policy{Daily: 1, MaxDeleteFraction: 1}

func (r *rig) prune(now time.Time, policy retention.Policy) offsite.Pruned {
	r.t.Helper()
	pruned, err := r.vault.Prune(context.Background(), now, offsite.PruneOptions{Policy: policy, Signers: r.signers()})
	r.check(err)
	return pruned
}

// recent is the stamp of some days ago: prune compares stamps with the time at
// which they arrived.
func recent(daysAgo int) snapshot.Stamp {
	return snapshot.StampOf(time.Now().Add(-time.Duration(daysAgo) * day))
}

// other bytes each time, so that no snapshot needs the packs of another.
func (r *rig) lonely(daysAgo int) offsite.Source {
	r.t.Helper()
	return r.snapshot(recent(daysAgo), map[string][]byte{fmt.Sprintf("db/%d", daysAgo): noise(byte(daysAgo), 300<<10)})
}

func TestPruneRemovesInTwoSteps(t *testing.T) {
	r := newRig(t)
	old, last := r.lonely(3), r.lonely(1)
	r.push(old)
	r.push(last)
	packs := len(r.objects("packs"))

	pruned := r.prune(time.Now(), keepOne)
	if !slices.Equal(pruned.Deleted, []snapshot.Stamp{old.Info.Stamp}) || len(pruned.Trashed) != 0 {
		t.Fatalf("%+v", pruned)
	}
	if stamps := r.list(); !slices.Equal(stamps, []snapshot.Stamp{last.Info.Stamp}) ||
		len(r.objects("packs")) != packs {
		t.Fatalf("%v, %d packs", stamps, len(r.objects("packs")))
	}
	r.age(8*day, everything)
	if pruned = r.prune(time.Now(), keepOne); len(pruned.Trashed) != 1 || len(pruned.Removed) != 0 {
		t.Fatalf("a week later: %+v", pruned)
	}
	// The pack is old, but it has been in trash/ only since now.
	if pruned = r.prune(time.Now(), keepOne); len(pruned.Removed) != 0 {
		t.Fatalf("at once: %+v", pruned)
	}
	r.age(8*day, func(name string) bool { return strings.HasSuffix(name, ".since") })
	if pruned = r.prune(time.Now(), keepOne); len(pruned.Removed) != 1 {
		t.Fatalf("two weeks later: %+v", pruned)
	}
	if left := r.objects("trash"); len(left) > 0 {
		t.Errorf("left in trash: %q", left)
	}
	r.wantPull(last)
}

func TestPruneDryRunAndHeld(t *testing.T) {
	r := newRig(t)
	for n := range 6 {
		r.push(r.lonely(n))
	}
	policy := retention.Policy{Daily: 1, MaxDeleteFraction: 0.5}
	dry, err := r.vault.Prune(
		context.Background(), time.Now(),
		offsite.PruneOptions{Policy: policy, Signers: r.signers(), DryRun: true},
	)
	if err != nil || !dry.Decision.Held || len(dry.Decision.Delete()) != 5 || len(r.list()) != 6 {
		t.Errorf("%v, held %v, %d of %d", err, dry.Decision.Held, len(dry.Decision.Delete()), len(r.list()))
	}
	_, err = r.vault.Prune(context.Background(), time.Now(), offsite.PruneOptions{Policy: policy, Signers: r.signers()})
	if err == nil || len(r.list()) != 6 {
		t.Errorf("not held: %v, %d are left", err, len(r.list()))
	}
	keep := recent(4)
	confirmed, err := r.vault.Prune(
		context.Background(),
		time.Now(),
		offsite.PruneOptions{Policy: policy, Signers: r.signers(), Confirm: true,
			Adjust: func(s *retention.Snapshot) { s.Pinned = strings.HasPrefix(s.Stamp, string(keep[:8])) }},
	)
	if err != nil || len(confirmed.Deleted) != 4 || len(r.list()) != 2 {
		t.Errorf("%v, %v deleted", err, confirmed.Deleted)
	}
}

// hookRemote lets a test act just before an operation, as another machine would.
type hookRemote struct {
	offsite.Remote
	before func(op, name string)
}

func (h *hookRemote) List(ctx context.Context, dir string) ([]offsite.Entry, error) {
	h.before("list", dir)
	return h.Remote.List(ctx, dir)
}

func (h *hookRemote) Put(ctx context.Context, name string, r io.Reader) (int64, error) {
	h.before("put", name)
	return h.Remote.Put(ctx, name, r)
}

func (h *hookRemote) Move(ctx context.Context, from, to string) error {
	h.before("move", from)
	return h.Remote.Move(ctx, from, to)
}

func (h *hookRemote) Remove(ctx context.Context, name string) error {
	h.before("remove", name)
	return h.Remote.Remove(ctx, name)
}

// A push that refers to old packs runs while the other machine prunes, and each
// step of the one is tried between any two steps of the other. The packs were
// named by nobody when prune began: the snapshot that needed them is gone.
func TestPruneAgainstPush(t *testing.T) {
	for _, trashed := range []bool{false, true} {
		for step := 0; ; step++ {
			if !pruneAgainstPush(t, trashed, step) {
				t.Logf("trashed %v: %d places", trashed, step)
				break
			}
		}
	}
}

// pruneAgainstPush runs a whole prune before the step-th operation of a push,
// and a push before the step-th operation of a prune. It reports whether there
// was such a step in either.
func pruneAgainstPush(t *testing.T, trashed bool, step int) bool {
	inPush := racing(t, trashed, step, true)
	inPrune := racing(t, trashed, step, false)
	return inPush || inPrune
}

func racing(t *testing.T, trashed bool, step int, pruneInside bool) bool {
	t.Helper()
	r := newRig(t)
	files := map[string][]byte{"db/atocore.db": noise(1, 200<<10)}
	first := r.snapshot(recent(3), files)
	r.push(first)
	// Somebody has removed it by hand; the host's map still points there.
	for _, name := range r.objects("snapshots") {
		r.check(os.Remove(filepath.Join(r.root, name)))
	}
	r.age(8*day, everything)
	if trashed {
		r.prune(time.Now(), keepOne)
		r.age(8*day, everything)
	}
	second := r.snapshot(recent(1), files)
	real := r.remote
	prune := func(remote offsite.Remote) {
		vault, err := offsite.OpenVault(context.Background(), remote)
		r.check(err)
		_, err = vault.Prune(
			context.Background(), time.Now(), offsite.PruneOptions{Policy: keepOne, Signers: r.signers()},
		)
		r.check(err)
	}
	var result offsite.Pushed
	push := func(remote offsite.Remote) {
		vault, err := offsite.OpenVault(context.Background(), remote)
		r.check(err)
		for try := 0; ; try++ {
			r.seq++
			if result, err = vault.Push(context.Background(), second, r.pushOptions()); err == nil {
				return
			}
			// A pack that went in between is noticed before the signature.
			if try == 2 || len(r.list()) > 0 {
				t.Fatalf("step %d: push %d: %v", step, try, err)
			}
		}
	}
	n, reached := 0, false
	inside, outside := prune, push
	if !pruneInside {
		inside, outside = push, prune
	}
	outside(&hookRemote{Remote: real, before: func(op, name string) {
		if n++; n == step+1 {
			reached = true
			inside(real)
		}
	}})
	if !reached {
		return false
	}
	r.wantStockTools(result.Push) // they look in packs/ alone
	// A prune that comes after must not harm it either, however late.
	r.age(8*day, func(name string) bool { return strings.HasPrefix(name, "trash/") })
	prune(real)
	r.wantPull(second)
	return true
}

func TestPruneLeavesWhatItCannotTrust(t *testing.T) {
	r := newRig(t)
	good := r.lonely(2)
	r.push(good)
	forger := bareRig(t)
	forger.vault, forger.seq = r.vault, 100 // has stolen access, not the key
	forger.root, forger.remote = r.root, r.remote
	forger.push(forger.snapshot(recent(0), map[string][]byte{"db/x": noise(9, 1000)}))

	// The real key, but long after its stamp: stolen keys write what they like.
	late := r.snapshot(recent(200), map[string][]byte{"db/late": noise(8, 1000)})
	r.push(late)

	pruned := r.prune(time.Now(), retention.Policy{Daily: 1, MaxDeleteFraction: 1})
	if len(pruned.Deleted) != 0 || len(pruned.Warnings) != 2 {
		t.Errorf("deleted %v, warnings %q", pruned.Deleted, pruned.Warnings)
	}
	text := strings.Join(pruned.Warnings, "\n")
	for _, want := range []string{string(recent(0))[:8], string(late.Info.Stamp), "arrived 200 days after its stamp"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q does not say %q", text, want)
		}
	}
	r.wantPull(good)
	r.wantPull(late)
}

func TestPruneRemovesSupersededPushes(t *testing.T) {
	r := newRig(t)
	src := r.lonely(1)
	old := r.push(src)
	current := r.push(src)
	r.prune(time.Now(), keepOne)
	for _, name := range r.objects("snapshots") {
		if strings.Contains(name, string(old.Push)) || !strings.Contains(name, string(current.Push)) {
			t.Errorf("%s is there", name)
		}
	}
	r.wantPull(src)
}

func TestPruneSweepsLeftovers(t *testing.T) {
	r := newRig(t)
	r.push(r.lonely(1))
	r.check(os.MkdirAll(filepath.Join(r.root, "incoming"), 0o755))
	r.write(r.root, "incoming/half.age.XYZ", []byte("half"))
	push := "20260101T060000Z-0a0b0c"
	r.write(r.root, "snapshots/"+push+".manifest.age", []byte("unsigned"))
	r.write(r.root, "snapshots/notes.txt", []byte("mine"))
	now := time.Now()
	for _, name := range []string{
		"incoming/half.age.XYZ", "snapshots/" + push + ".manifest.age", "snapshots/notes.txt",
	} {
		r.check(os.Chtimes(filepath.Join(r.root, name), time.Time{}, now.Add(-time.Hour)))
	}
	if pruned := r.prune(now, keepOne); len(pruned.Removed) != 0 {
		t.Errorf("at once: %q", pruned.Removed)
	}
	if pruned := r.prune(now.Add(3*day), keepOne); !slices.Equal(pruned.Removed, []string{"incoming/half.age.XYZ"}) {
		t.Errorf("after three days: %q", pruned.Removed)
	}
	pruned := r.prune(now.Add(8*day), keepOne)
	if !slices.Equal(pruned.Removed, []string{"snapshots/" + push + ".manifest.age"}) {
		t.Errorf("after eight days: %q", pruned.Removed)
	}
	if _, err := os.Stat(filepath.Join(r.root, "snapshots/notes.txt")); err != nil {
		t.Error(err)
	}
}

// A list of packs that is damaged, or a stranger's, stops nothing, and what its own
// push made stays while it is there.
func TestPruneIsNotStoppedByADamagedList(t *testing.T) {
	r := newRig(t)
	r.push(r.lonely(2))
	r.push(r.lonely(1))
	for _, name := range r.objects("snapshots") {
		if strings.HasSuffix(name, ".SHA256SUMS") {
			r.check(os.WriteFile(filepath.Join(r.root, name), []byte("garbage\n"), 0o600))
		}
	}
	r.age(8*day, everything)
	packs := len(r.objects("packs"))
	pruned := r.prune(time.Now(), keepOne)
	if len(pruned.Warnings) != 2 || !strings.Contains(pruned.Warnings[0], ".SHA256SUMS") ||
		len(r.objects("packs")) != packs {
		t.Errorf("%q, %d of %d packs", pruned.Warnings, len(r.objects("packs")), packs)
	}
	// A sound push of a newer stamp is there: the broken ones are nobody's.
	r.push(r.lonely(0))
	pruned = r.prune(time.Now(), keepOne)
	if len(pruned.Removed) == 0 || len(pruned.Trashed) == 0 {
		t.Errorf("removed %q, trashed %q", pruned.Removed, pruned.Trashed)
	}
}

// A first push that takes longer than the waiting time keeps all of its packs.
func TestPruneLeavesALongPush(t *testing.T) {
	r := newRig(t)
	r.push(r.lonely(1))
	for i, age := range []time.Duration{20 * day, 10 * day, day} {
		name := fmt.Sprintf("packs/20260101T060000Z-abcdef-%06d.age", i)
		r.pack(name, age)
	}
	for i := range 2 {
		name := fmt.Sprintf("packs/20260102T060000Z-abcdef-%06d.age", i)
		r.pack(name, 8*day)
	}
	if pruned := r.prune(time.Now(), keepOne); len(pruned.Trashed) != 2 ||
		!strings.HasPrefix(pruned.Trashed[0], "20260102") {
		t.Errorf("trashed %q", pruned.Trashed)
	}
}

// pack lays a pack that arrived some time ago.
func (r *rig) pack(name string, age time.Duration) {
	r.t.Helper()
	r.write(r.root, name, []byte("age-encryption.org/v1\n"))
	r.check(os.Chtimes(filepath.Join(r.root, name), time.Time{}, time.Now().Add(-age)))
}

// Where the second machine prunes, a push that is superseded lives on, and counts
// as a deletion when its time has come.
func TestPruneKeepsSupersededPushes(t *testing.T) {
	r := newRig(t)
	src := r.lonely(1)
	first := r.push(src)
	r.push(src)
	o := offsite.PruneOptions{Policy: keepOne, Signers: r.signers(), SecondMachine: true}
	pruned, err := r.vault.Prune(t.Context(), time.Now(), o)
	r.check(err)
	if len(pruned.Superseded) != 1 || pruned.Superseded[0].Due || pruned.Superseded[0].Push != first.Push {
		t.Errorf("%+v", pruned.Superseded)
	}
	if _, _, err := r.vault.Find(t.Context(), string(first.Push), r.signers()); err != nil {
		t.Error(err)
	}
	pruned, err = r.vault.Prune(t.Context(), time.Now().Add(15*day), o)
	r.check(err)
	if len(pruned.Superseded) != 1 || !pruned.Superseded[0].Due {
		t.Errorf("%+v", pruned.Superseded)
	}
	if _, _, err := r.vault.Find(t.Context(), string(first.Push), r.signers()); err == nil {
		t.Error("it is still there")
	}
}

// A thief who has the signing key pushes every stamp again: the good pushes go at
// no time without somebody being asked.
func TestPruneHoldsAMassOfSupersededPushes(t *testing.T) {
	r := newRig(t)
	var sources []offsite.Source
	for i := range 5 {
		sources = append(sources, r.lonely(i+1))
		r.push(sources[i])
	}
	for _, src := range sources {
		r.push(src)
	}
	policy := retention.Policy{Daily: 30, MaxDeleteFraction: 0.3}
	o := offsite.PruneOptions{Policy: policy, Signers: r.signers(), SecondMachine: true}
	before := len(r.objects("snapshots"))
	pruned, err := r.vault.Prune(t.Context(), time.Now().Add(15*day), o)
	if err == nil || !pruned.Decision.Held || len(r.objects("snapshots")) != before {
		t.Errorf("%v, %+v", err, pruned.Decision)
	}
}

// What the host wants kept reaches a vault that it cannot prune: pins and longer
// counts do, shorter ones do not.
func TestPolicyDocumentsOnlyLengthen(t *testing.T) {
	r := newRig(t)
	for i := range 4 {
		r.push(r.lonely(i + 1))
	}
	stamps := r.list()
	put := func(p offsite.PolicyDocument) {
		_, err := r.vault.PutPolicy(t.Context(), p, r.signer, r.signers(), &offsite.State{})
		r.check(err)
	}
	kept := func(policy retention.Policy) int {
		pruned, err := r.vault.Prune(
			t.Context(), time.Now(),
			offsite.PruneOptions{Policy: policy, Signers: r.signers(), SecondMachine: true, DryRun: true},
		)
		r.check(err)
		return len(pruned.Decision.Keep())
	}
	two := retention.Policy{Daily: 2, MaxDeleteFraction: 1}
	put(offsite.PolicyDocument{Retention: retention.Policy{Daily: 1}})
	if n := kept(two); n != 2 {
		t.Errorf("%d are kept", n)
	}
	put(offsite.PolicyDocument{Retention: retention.Policy{Daily: 3}})
	if n := kept(two); n != 3 {
		t.Errorf("%d are kept with three days", n)
	}
	put(offsite.PolicyDocument{Retention: retention.Policy{Daily: 1}, Pinned: stamps[:1]})
	if n := kept(two); n != 4 { // the longer one still holds for a while
		t.Errorf("%d are kept with a pin", n)
	}
	forged := newRig(t)
	data, err := os.ReadFile(filepath.Join(r.root, "policy/000003.json"))
	r.check(err)
	signature, err := forged.signer.Sign(data)
	r.check(err)
	r.write(r.root, "policy/000009.json", data)
	r.write(r.root, "policy/000009.json.sig", signature)
	if n := kept(two); n != 4 {
		t.Errorf("%d are kept beside a forged policy", n)
	}
}

// A copy of a vault has new times: by itself nothing in it counts, and the host
// goes by its own record, the owner by his word.
func TestPruneOfACopy(t *testing.T) {
	r := newRig(t)
	known := make(map[offsite.PushID]bool)
	for i := range 3 {
		known[r.push(r.lonely(i+30)).Push] = true
	}
	prune := func(o offsite.PruneOptions) int {
		o.Policy, o.Signers, o.DryRun = retention.Policy{Daily: 1, MaxDeleteFraction: 1}, r.signers(), true
		pruned, err := r.vault.Prune(t.Context(), time.Now(), o)
		r.check(err)
		return len(pruned.Decision.Delete())
	}
	if n := prune(offsite.PruneOptions{}); n != 0 {
		t.Errorf("%d late ones are deleted", n)
	}
	if n := prune(offsite.PruneOptions{Known: func(p offsite.PushID) bool { return known[p] }}); n != 2 {
		t.Errorf("%d of the host's own are deleted", n)
	}
	if n := prune(offsite.PruneOptions{TrustBefore: time.Now().Add(time.Minute)}); n != 2 {
		t.Errorf("%d are deleted by the owner's word", n)
	}
}

// The other machine's clock is years ahead: what has just arrived looks old to
// us, and to it everything that we call a week ago.
func TestPruneGoesByTheOtherClock(t *testing.T) {
	r := newRig(t)
	r.push(r.lonely(1))
	orphan := "packs/20260101T060000Z-0a0b0c-000000.age"
	r.write(r.root, orphan, []byte("age-encryption.org/v1\nunder way"))
	for _, skew := range []time.Duration{-1000 * day, 1000 * day} {
		r.check(os.Chtimes(filepath.Join(r.root, orphan), time.Time{}, time.Now().Add(skew)))
		skewed := &skewRemote{hookRemote{r.remote, func(string, string) {}}, skew}
		vault, err := offsite.OpenVault(context.Background(), skewed)
		r.check(err)
		pruned, err := vault.Prune(
			context.Background(), time.Now(), offsite.PruneOptions{Policy: keepOne, Signers: r.signers()},
		)
		r.check(err)
		if len(pruned.Trashed)+len(pruned.Removed) > 0 {
			t.Errorf("skew %v: %+v", skew, pruned)
		}
	}
}

// skewRemote has another clock: what is made through it has its time.
type skewRemote struct {
	hookRemote
	skew time.Duration
}

func (s *skewRemote) Stat(ctx context.Context, name string) (offsite.Entry, error) {
	e, err := s.Remote.Stat(ctx, name)
	e.MTime = e.MTime.Add(s.skew)
	return e, err
}

// A restore that has begun ends well although its snapshot is pruned meanwhile:
// what it needs lies in trash/ for a week.
func TestPullOutlivesPrune(t *testing.T) {
	r := newRig(t)
	old := r.snapshot(recent(3), map[string][]byte{"db/atocore.db": noise(3, 60<<20)})
	r.push(old)
	r.push(r.lonely(1))
	r.age(8*day, everything)
	stored, _, err := r.vault.Find(context.Background(), string(old.Info.Stamp), r.signers())
	r.check(err)
	dest := filepath.Join(t.TempDir(), "restored")
	trashed := 0
	prune := sync.OnceFunc(func() { trashed = len(r.prune(time.Now(), keepOne).Trashed) })
	r.check(
		r.vault.Pull(
			context.Background(),
			stored,
			dest,
			offsite.PullOptions{
				Identities: r.identities, Signers: r.signers(),
				Progress: func(string, int64, int64) { prune() },
			},
		),
	)
	if trashed < 5 || len(r.list()) != 1 {
		t.Fatalf("%d packs went to trash, %v is left", trashed, r.list())
	}
	sameTree(t, old.Dir, dest)
}
