package offsite_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/offsite/dir"
	"github.com/atocore/atobackupd/snapshot"
)

func TestRoundTrip(t *testing.T) {
	for name, make := range map[string]func(testing.TB) *rig{
		"dir":  newRig,
		"sshd": func(t testing.TB) *rig { r, _ := newSSHRig(t); return r },
	} {
		t.Run(name, func(t *testing.T) {
			r := make(t)
			src := r.oddities(stampOf(0))
			pushed := r.push(src)
			if pushed.Stamp != src.Info.Stamp || pushed.Packs == 0 || pushed.Bytes == 0 || !pushed.Base {
				t.Errorf("pushed %+v", pushed)
			}
			r.wantPull(src)
			r.wantRecover(src)
			r.wantStockTools(pushed.Push)
			if left := r.objects("incoming"); len(left) > 0 {
				t.Errorf("left in incoming: %q", left)
			}
		})
	}
}

// wantStockTools verifies a push by sha256sum and ssh-keygen, as README.txt
// tells a stranger.
func (r *rig) wantStockTools(push offsite.PushID) {
	r.t.Helper()
	signers := filepath.Join(r.t.TempDir(), "allowed_signers")
	r.check(
		os.WriteFile(
			signers, []byte("atobackupd namespaces=\"atobackup-vault\" "+r.signer.AuthorizedKey()+"\n"), 0o600,
		),
	)
	script := fmt.Sprintf(`set -e; sha256sum --strict -c snapshots/%[1]s.SHA256SUMS
ssh-keygen -Y verify -f %[2]s -I atobackupd -n atobackup-vault -s snapshots/%[1]s.SHA256SUMS.sig < snapshots/%[1]s.SHA256SUMS`, push, signers)
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = r.root
	if out, err := cmd.CombinedOutput(); err != nil ||
		!strings.Contains(string(out), "Good \"atobackup-vault\" signature") {
		r.t.Errorf("%v\n%s", err, out)
	}
}

func TestHolesStayHoles(t *testing.T) {
	r := newRig(t)
	src := r.snapshot(stampOf(0), map[string][]byte{"db/atocore.db": sparse(64 << 20)})
	if pushed := r.push(src); pushed.Bytes > 64<<10 {
		t.Errorf("%d bytes for three pages", pushed.Bytes)
	}
	dest, err := r.pull("latest")
	r.check(err)
	sameTree(t, src.Dir, dest)
	if n := blocks(t, filepath.Join(dest, "db/atocore.db")); n > 1<<20 {
		t.Errorf("it takes %d bytes on the disk", n)
	}
}

func TestSnapshotOfNothing(t *testing.T) {
	r := newRig(t)
	src := r.snapshot(stampOf(0), map[string][]byte{"db/": nil})
	if pushed := r.push(src); pushed.Packs != 0 {
		t.Errorf("%d packs of no page", pushed.Packs)
	}
	r.wantPull(src)
	r.wantRecover(src)
}

func TestManyFiles(t *testing.T) {
	r := newRig(t)
	files := make(map[string][]byte)
	for i := range 3000 {
		files[fmt.Sprintf("chroma/%d/%d", i%7, i)] = fmt.Appendf(nil, "file %d", i)
	}
	src := r.snapshot(stampOf(0), files)
	if pushed := r.push(src); pushed.Packs > 4 {
		t.Errorf("%d packs for 3000 small files", pushed.Packs)
	}
	r.wantPull(src)
}

func TestNothingLeavesInTheClear(t *testing.T) {
	r := newRig(t)
	canary := []byte("CANARY-7f3a9c-do-not-ship-in-the-clear")
	src := r.snapshot(stampOf(0), map[string][]byte{
		"db/atocore.db": bytes.Repeat(canary, 10000), "config/project-registry.json": canary,
		"chroma/" + string(canary): noise(1, 100000)})
	r.push(src)
	r.check(filepath.WalkDir(r.root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, canary) || strings.Contains(path, string(canary)) {
			t.Errorf("%s shows the canary", path)
		}
		return err
	}))
}

func TestRotIsNotShipped(t *testing.T) {
	r := newRig(t)
	src := r.snapshot(stampOf(0), map[string][]byte{"db/atocore.db": text(1, 1<<20)})
	r.write(src.Dir, "db/atocore.db", text(2, 1<<20))
	_, err := r.vault.Push(context.Background(), src, r.pushOptions())
	if failure.KindOf(err) != failure.Invalid || !strings.Contains(err.Error(), "db/atocore.db") ||
		!strings.Contains(err.Error(), "checksum_mismatch") {
		t.Errorf("Push = %v", err)
	}
	if stamps := r.list(); len(stamps) != 0 {
		t.Errorf("the vault lists %v", stamps)
	}
}

func TestNewestPushOfAStampCounts(t *testing.T) {
	r := newRig(t)
	src := r.snapshot(stampOf(0), map[string][]byte{"db/atocore.db": text(1, 1<<20)})
	r.push(src)
	second := r.push(src)
	stored, _, err := r.vault.Find(context.Background(), "latest", r.signers())
	r.check(err)
	if stored.Push != second.Push {
		t.Errorf("latest is %s, not %s", stored.Push, second.Push)
	}
	if stamps := r.list(); len(stamps) != 1 {
		t.Errorf("the vault lists %v", stamps)
	}
}

func TestLatestHoldsASlot(t *testing.T) {
	r := newRig(t)
	r.push(r.snapshot(stampOf(0), nil))
	src := r.snapshot(stampOf(1), nil)
	src.Info.Kind = snapshot.PreRestore
	r.push(src)
	stored, _, err := r.vault.Find(context.Background(), "latest", r.signers())
	r.check(err)
	if stored.Stamp != stampOf(0) {
		t.Errorf("latest is %s", stored.Stamp)
	}
	_, _, err = r.vault.Find(context.Background(), string(stampOf(2)), r.signers())
	if failure.KindOf(err) != failure.NotFound {
		t.Errorf("Find = %v", err)
	}
}

func TestWrongKeyAndWrongSigner(t *testing.T) {
	r := newRig(t)
	r.push(r.snapshot(stampOf(0), map[string][]byte{"db/atocore.db": text(1, 1<<20)}))
	other := bareRig(t)
	stored, _, err := r.vault.Find(context.Background(), "latest", r.signers())
	r.check(err)
	dest := filepath.Join(t.TempDir(), "restored")
	for name, o := range map[string]offsite.PullOptions{
		"signer":   {Identities: r.identities, Signers: other.signers()},
		"identity": {Identities: other.identities, Signers: r.signers()},
	} {
		if err := r.vault.Pull(context.Background(), stored, dest, o); err == nil {
			t.Errorf("another %s: fetched", name)
		}
		checkEmpty(t, filepath.Dir(dest))
	}
}

// Whoever holds the vault knows the recipients and can seal packs of his own.
// They decrypt, decompress and have every page; only their bytes are not those
// that were signed. The error names the pack, and nothing is left.
func TestPullRefusesForgedPacks(t *testing.T) {
	seal := func(r *rig, pages []byte) []byte {
		var pack bytes.Buffer
		w, err := r.recipients.Seal(&pack)
		r.check(err)
		enc, err := zstd.NewWriter(w)
		r.check(err)
		_, err = enc.Write(pages)
		r.check(errors.Join(err, enc.Close(), w.Close()))
		return pack.Bytes()
	}
	for name, forge := range map[string]func(r *rig, packs []string){
		"other pages": func(r *rig, packs []string) {
			r.check(os.WriteFile(filepath.Join(r.root, packs[1]), seal(r, noise(9, 32<<20)), 0o600))
		},
		"another pack of the vault": func(r *rig, packs []string) {
			data, err := os.ReadFile(filepath.Join(r.root, packs[0]))
			r.check(errors.Join(err, os.WriteFile(filepath.Join(r.root, packs[1]), data, 0o600)))
		},
		"fewer pages": func(r *rig, packs []string) {
			r.check(os.WriteFile(filepath.Join(r.root, packs[1]), seal(r, noise(9, 1<<20)), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.push(r.snapshot(stampOf(0), map[string][]byte{"db/atocore.db": noise(1, 30<<20)}))
			packs := r.objects("packs")
			if len(packs) < 3 {
				t.Fatalf("%q", packs)
			}
			forge(r, packs)
			dest, err := r.pull("latest")
			if failure.KindOf(err) != failure.Invalid || !strings.Contains(err.Error(), packs[1]) {
				t.Errorf("Pull = %v", err)
			}
			checkEmpty(t, filepath.Dir(dest))
		})
	}
}

func TestPullRefusesWhatIsThere(t *testing.T) {
	r := newRig(t)
	r.push(r.snapshot(stampOf(0), nil))
	dest := t.TempDir()
	r.write(dest, "mine", []byte("precious"))
	stored, _, err := r.vault.Find(context.Background(), "latest", r.signers())
	r.check(err)
	err = r.vault.Pull(
		context.Background(), stored, dest, offsite.PullOptions{Identities: r.identities, Signers: r.signers()},
	)
	if failure.KindOf(err) != failure.Refused {
		t.Errorf("Pull = %v", err)
	}
	checkOnlyEntry(t, dest, "mine")
}

func TestPinnedVault(t *testing.T) {
	r := newRig(t)
	state := func() *offsite.State {
		s, err := offsite.LoadState(r.stateDir, "laptop")
		r.check(err)
		return s
	}
	open := func(root string, s *offsite.State, create offsite.VaultInfo, repin bool) error {
		remote, err := dir.Open(root, tree.Trusted(""))
		r.check(err)
		defer remote.Close()
		_, err = offsite.OpenPinned(context.Background(), remote, s, create, repin)
		return err
	}
	id := r.vault.Info.ID
	if state().VaultID != id {
		t.Fatalf("pinned %q, not %q", state().VaultID, id)
	}
	r.check(open(r.root, state(), r.create(), false))

	empty, other, foreign := t.TempDir(), newRig(t), t.TempDir()
	r.write(foreign, "thesis.tex", []byte("not yours"))
	refused := map[string]error{
		"nothing where the vault was":  open(empty, state(), r.create(), false),
		"another vault there":          open(other.root, state(), other.create(), false),
		"another host's vault":         open(other.root, state(), r.create(), false),
		"another host's, accepted":     open(other.root, state(), r.create(), true),
		"a foreign directory":          open(foreign, state(), r.create(), false),
		"a foreign directory, new":     open(foreign, &offsite.State{}, r.create(), false),
		"a foreign directory, by init": open(foreign, state(), r.create(), true),
	}
	for name, err := range refused {
		if failure.KindOf(err) != failure.VaultMismatch {
			t.Errorf("%s: %v", name, err)
		}
	}
	checkEmpty(t, empty)
	checkOnlyEntry(t, foreign, "thesis.tex")
	if state().VaultID != id {
		t.Errorf("the pin moved to %q", state().VaultID)
	}

	// Lost state finds our own vault again; init begins another one.
	r.check(os.RemoveAll(r.stateDir))
	r.check(open(r.root, state(), r.create(), false))
	if state().VaultID != id {
		t.Errorf("found %q again, not %q", state().VaultID, id)
	}
	r.check(open(empty, state(), r.create(), true))
	if got := state().VaultID; got == id || got == "" {
		t.Errorf("init pinned %q", got)
	}
}

// A vault that a newer program has written is left as it is, whatever proves it ours;
// one whose vault.json is damaged is given another.
func TestNewerVaultIsLeftAlone(t *testing.T) {
	r := newRig(t)
	state, err := offsite.LoadState(r.stateDir, "laptop")
	r.check(err)
	r.check(state.RecordPush(r.push(r.snapshot(stampOf(0), nil))))
	name := filepath.Join(r.root, "vault.json")
	sound, err := os.ReadFile(name)
	r.check(err)
	newer := bytes.Replace(sound, []byte(`"version": 1`), []byte(`"version": 2`), 1)
	damaged := bytes.Replace(sound, []byte("atobackup-vault"), []byte("atobackup-vaulT"), 1)
	for _, c := range []struct {
		what  string
		text  []byte
		repin bool
		left  []byte
	}{
		{"newer", newer, false, newer},
		{"newer, by init", newer, true, sound},
		{"damaged", damaged, false, sound},
	} {
		r.check(os.WriteFile(name, c.text, 0o600))
		remote, err := dir.Open(r.root, tree.Trusted(""))
		r.check(err)
		_, err = offsite.OpenPinned(context.Background(), remote, state, r.create(), c.repin)
		if refused := errors.Is(err, offsite.ErrNewerVault); refused != bytes.Equal(c.left, newer) || err != nil && !refused {
			t.Errorf("%s: %v", c.what, err)
		}
		r.check(remote.Close())
		left, err := os.ReadFile(name)
		r.check(err)
		if version := regexp.MustCompile(`"version": \d`); !bytes.Equal(version.Find(left), version.Find(c.left)) {
			t.Errorf("%s: vault.json became %s", c.what, left)
		}
	}
}

func TestRolledBackVaultIsStale(t *testing.T) {
	r := newRig(t)
	ctx := context.Background()
	state, err := offsite.LoadState(r.stateDir, "laptop")
	r.check(err)
	for day := range 3 {
		pushed := r.push(r.snapshot(stampOf(day), nil))
		r.check(state.RecordPush(pushed))
	}
	seen := func() []offsite.Stored {
		list, _, err := r.vault.ListVerified(ctx, r.signers())
		r.check(err)
		return list
	}
	check := func() error {
		survey, err := r.vault.Survey(ctx, r.signers())
		r.check(err)
		return state.CheckSeq(survey)
	}
	if err := check(); err != nil {
		t.Fatal(err)
	}
	for _, name := range r.objects("snapshots") {
		if strings.Contains(name, string(stampOf(2))) {
			r.check(os.Remove(filepath.Join(r.root, name)))
		}
	}
	// A number that somebody wrote by hand must not hide it.
	list := seen()
	info := filepath.Join(r.root, "snapshots", string(list[0].Push)+".json")
	data, err := os.ReadFile(info)
	r.check(err)
	r.check(os.Remove(info))
	r.check(os.WriteFile(info, bytes.Replace(data, []byte(`"seq":1`), []byte(`"seq":99`), 1), 0o600))
	if list = seen(); len(list) != 1 {
		t.Errorf("proven: %v", list)
	}
	if err := check(); failure.KindOf(err) != failure.Stale || !strings.Contains(err.Error(), string(stampOf(2))) {
		t.Errorf("CheckSeq = %v", err)
	}
	if next := state.NextSeq(list); next != 4 {
		t.Errorf("NextSeq = %d", next)
	}
}
