package offsite_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/offsite/dir"
	"github.com/atocore/atobackupd/offsite/sftp"
	"github.com/atocore/atobackupd/offsite/sftp/sshdtest"
	"github.com/atocore/atobackupd/retention"
	"github.com/atocore/atobackupd/snapshot"
)

// rig is a host with snapshots, its keys, and a vault that it ships them to.
type rig struct {
	t          testing.TB
	root       string // of the vault, as the machine that holds it sees it
	remote     offsite.Remote
	vault      *offsite.Vault
	stateDir   string
	snapshots  string // where the host's snapshots lie
	baseDir    string
	identity   string
	identities crypt.Identities
	recipients *crypt.Recipients
	signer     *crypt.Signer
	seq        int64
	options    func(*offsite.PushOptions) // what a test wants otherwise
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := bareRig(t)
	remote, err := dir.Open(r.root, tree.Trusted(""))
	r.check(err)
	r.open(remote)
	return r
}

// newSSHRig has its vault behind a real sshd.
func newSSHRig(t testing.TB) (*rig, *sshdtest.Server) {
	t.Helper()
	r := bareRig(t)
	server := sshdtest.Start(t, sshdtest.Options{Root: r.root})
	r.open(dialSSH(t, server, r.root))
	return r, server
}

func dialSSH(t testing.TB, server *sshdtest.Server, path string) offsite.Remote {
	t.Helper()
	remote, err := sftp.Dial(context.Background(), sftp.Config{
		Name: "laptop", Hosts: []string{server.Host}, Port: server.Port, User: server.User,
		IdentityFile: server.IdentityFile, KnownHosts: server.KnownHosts, Path: path,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remote.Close() })
	return remote
}

func bareRig(t testing.TB) *rig {
	t.Helper()
	host := t.TempDir()
	r := &rig{
		t: t, root: filepath.Join(t.TempDir(), "vault"), stateDir: filepath.Join(host, "state"),
		snapshots: filepath.Join(host, "backups", "snapshots"),
		baseDir:   filepath.Join(host, "backups", "base", "laptop"), identity: filepath.Join(host, "key.txt"),
	}
	r.check(os.MkdirAll(r.snapshots, 0o700))
	r.check(os.MkdirAll(r.root, 0o755))
	recipient, err := crypt.WriteIdentity(r.identity)
	r.check(err)
	r.recipients, err = crypt.ParseRecipients([]string{recipient})
	r.check(err)
	r.identities, err = crypt.LoadIdentities(r.identity)
	r.check(err)
	r.signer, _, err = crypt.LoadOrCreateSigner(filepath.Join(host, "signing_key"))
	r.check(err)
	return r
}

func (r *rig) open(remote offsite.Remote) {
	r.t.Helper()
	r.remote = remote
	r.t.Cleanup(func() { remote.Close() })
	state, err := offsite.LoadState(r.stateDir, "laptop")
	r.check(err)
	r.vault, err = offsite.OpenPinned(context.Background(), remote, state, r.create(), false)
	r.check(err)
}

func (r *rig) create() offsite.VaultInfo {
	return offsite.VaultInfo{
		Created: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		Host:    "dalidou",
		Signer:  r.signer.AuthorizedKey(),
		Retention: retention.Policy{
			Daily: 7, Weekly: 4, Monthly: 6, PreRestore: 30 * retention.Day,
			Invalid: 7 * retention.Day, MaxDeleteFraction: 0.5,
		},
	}
}

func (r *rig) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// snapshot makes a snapshot directory of files; a name that ends in / is a
// directory.
func (r *rig) snapshot(stamp snapshot.Stamp, files map[string][]byte) offsite.Source {
	r.t.Helper()
	root := filepath.Join(r.snapshots, string(stamp))
	r.write(root, snapshot.MetadataFile, fmt.Appendf(nil, "{\"created_at\": %q, \"ü\": 1}\n", stamp))
	r.write(root, snapshot.ManifestFile, []byte(`{"schema": 1}`))
	for name, data := range files {
		if strings.HasSuffix(name, "/") {
			r.check(os.MkdirAll(filepath.Join(root, name), 0o755))
			continue
		}
		r.write(root, name, data)
	}
	return r.source(stamp)
}

func (r *rig) write(root, name string, data []byte) {
	r.t.Helper()
	path := filepath.Join(root, name)
	r.check(os.MkdirAll(filepath.Dir(path), 0o750))
	r.check(os.WriteFile(path, data, 0o640))
	r.check(os.Chtimes(path, time.Time{}, time.Date(2026, 4, 7, 6, 0, 1, 123456789, time.UTC)))
}

// source describes the snapshot directory that is there.
func (r *rig) source(stamp snapshot.Stamp) offsite.Source {
	r.t.Helper()
	s := snapshot.Snapshot{Stamp: stamp, Path: filepath.Join(r.snapshots, string(stamp))}
	files, err := s.Inventory(context.Background())
	r.check(err)
	return offsite.Source{
		Dir: s.Path, Files: files, Host: "dalidou",
		Info: offsite.Info{Stamp: stamp, Kind: snapshot.Daily, Full: true},
	}
}

func (r *rig) pushOptions() offsite.PushOptions {
	o := offsite.PushOptions{
		Recipients: r.recipients, Signer: r.signer, Seq: r.seq,
		StateDir: offsite.StateDir(r.stateDir, "laptop"), BaseDir: r.baseDir,
	}
	if r.options != nil {
		r.options(&o)
	}
	return o
}

func (r *rig) push(src offsite.Source) offsite.Pushed {
	r.t.Helper()
	r.seq++
	pushed, err := r.vault.Push(context.Background(), src, r.pushOptions())
	r.check(err)
	return pushed
}

// list returns the stamps in the vault that are proven to be ours.
func (r *rig) list() (stamps []snapshot.Stamp) {
	r.t.Helper()
	list, warnings, err := r.vault.ListVerified(context.Background(), r.signers())
	r.check(err)
	for _, w := range warnings {
		r.t.Log("warning:", w)
	}
	for _, s := range list {
		stamps = append(stamps, s.Stamp)
	}
	return stamps
}

func (r *rig) pull(name string) (dest string, err error) {
	r.t.Helper()
	stored, _, err := r.vault.Find(context.Background(), name, r.signers())
	if err != nil {
		return "", err
	}
	dest = filepath.Join(r.t.TempDir(), "restored")
	return dest, r.vault.Pull(
		context.Background(), stored, dest, offsite.PullOptions{Identities: r.identities, Signers: r.signers()},
	)
}

// wantPull fetches a snapshot and compares it with the host's.
func (r *rig) wantPull(src offsite.Source) {
	r.t.Helper()
	dest, err := r.pull(string(src.Info.Stamp))
	r.check(err)
	sameTree(r.t, src.Dir, dest)
	checkOnlyEntry(r.t, filepath.Dir(dest), "restored")
}

// wantRecover does the same by recover.py, with age and zstd.
func (r *rig) wantRecover(src offsite.Source) {
	r.t.Helper()
	dest := filepath.Join(r.t.TempDir(), "restored")
	cmd := exec.Command(
		python(r.t), "-B", filepath.Join(r.root, "recover.py"), string(src.Info.Stamp), "--identity",
		r.identity, "--to", dest, "--signer", r.signer.AuthorizedKey(),
	)
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("recover.py: %v\n%s", err, out)
	}
	sameTree(r.t, src.Dir, dest)
}

// sameTree compares two directories: names, types, content, modes, mtimes and
// link targets. The two documents of a snapshot are compared by content.
func sameTree(t testing.TB, want, got string) {
	t.Helper()
	names := make(map[string]bool)
	err := filepath.WalkDir(want, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == want {
			return err
		}
		rel, err := filepath.Rel(want, path)
		if err != nil {
			return err
		}
		names[rel] = true
		if err := sameEntry(
			path, filepath.Join(got, rel), rel == snapshot.MetadataFile || rel == snapshot.ManifestFile,
		); err != nil {
			t.Errorf("%s: %v", rel, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = filepath.WalkDir(got, func(path string, entry fs.DirEntry, err error) error {
		if rel, _ := filepath.Rel(got, path); path != got && !names[rel] {
			t.Errorf("%s: it should not be there", rel)
		}
		return err
	})
}

func sameEntry(want, got string, document bool) error {
	w, err := os.Lstat(want)
	if err != nil {
		return err
	}
	g, err := os.Lstat(got)
	if err != nil {
		return err
	}
	harmless := w.Mode() &^ (fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky) // those are never put back
	if !document && (harmless != g.Mode() || (w.Mode()&fs.ModeSymlink == 0 && !w.ModTime().Equal(g.ModTime()))) {
		return fmt.Errorf("%v %v, not %v %v", g.Mode(), g.ModTime(), harmless, w.ModTime())
	}
	switch {
	case w.Mode()&fs.ModeSymlink != 0:
		a, _ := os.Readlink(want)
		if b, _ := os.Readlink(got); a != b {
			return fmt.Errorf("it leads to %s, not %s", b, a)
		}
	case w.Mode().IsRegular():
		a, err1 := os.ReadFile(want)
		b, err2 := os.ReadFile(got)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if !bytes.Equal(a, b) {
			return fmt.Errorf("%d bytes that are not the %d bytes wanted", len(b), len(a))
		}
	}
	return nil
}

// text returns reproducible bytes that compress about as a database does.
func text(seed uint64, size int) []byte {
	random := rand.New(rand.NewPCG(seed, 1))
	data := make([]byte, 0, size+16)
	for len(data) < size {
		data = fmt.Appendf(data, "%d row %x ", len(data), random.Uint32N(1<<16))
	}
	return data[:size]
}

// noise returns reproducible bytes that do not compress.
func noise(seed byte, size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data)
	return data
}

// sparse is zeros but for a page in the middle and a tail.
func sparse(size int) []byte {
	data := make([]byte, size)
	copy(data[size/2:], noise(9, 5000))
	copy(data[size-10:], "the end of")
	return data
}

// oddities is a snapshot with everything that a snapshot can hold.
func (r *rig) oddities(stamp snapshot.Stamp) offsite.Source {
	r.t.Helper()
	r.snapshot(stamp, map[string][]byte{
		"db/atocore.db":                text(1, 3<<20+777),
		"config/project-registry.json": []byte(`{"projects": []}`),
		"chroma/chroma.sqlite3":        text(2, 40*4096),
		"chroma/a b/data_level0.bin":   noise(3, 2<<20),
		"chroma/a b/length.bin":        sparse(1 << 20),
		"chroma/all zeros":             make([]byte, 300<<10),
		"chroma/empty":                 nil,
		"chroma/one byte":              {7},
		"chroma/one page":              noise(4, 4096),
		"chroma/ü\n":                   []byte("a name with a newline"),
		"chroma/hollow/":               nil,
	})
	root := filepath.Join(r.snapshots, string(stamp))
	r.check(os.Symlink("../chroma.sqlite3", filepath.Join(root, "chroma/a b/link")))
	r.check(os.Symlink("a b", filepath.Join(root, "chroma/to a b")))
	r.check(os.Symlink("to a b/length.bin", filepath.Join(root, "chroma/through a link")))
	r.check(os.Chmod(filepath.Join(root, "chroma/one byte"), 0o400))
	r.check(os.Chmod(filepath.Join(root, "chroma/one page"), 0o4755|fs.ModeSetuid))
	r.check(os.Chmod(filepath.Join(root, "chroma/hollow"), 0o550))
	old := time.Date(2020, 2, 29, 1, 2, 3, 4, time.UTC)
	r.check(os.Chtimes(filepath.Join(root, "chroma/a b"), time.Time{}, old))
	r.check(os.Chtimes(filepath.Join(root, "chroma"), time.Time{}, old))
	return r.source(stamp)
}

// stampOf returns the stamp of a day of the tests' year, at six o'clock.
func stampOf(day int) snapshot.Stamp {
	return snapshot.StampOf(time.Date(2026, 4, 1, 6, 0, 0, 0, time.UTC).AddDate(0, 0, day))
}

// objects returns the names of the vault's objects below a directory.
func (r *rig) objects(under string) (names []string) {
	r.t.Helper()
	entries, err := os.ReadDir(filepath.Join(r.root, under))
	if !errors.Is(err, fs.ErrNotExist) {
		r.check(err)
	}
	for _, e := range entries {
		names = append(names, under+"/"+e.Name())
	}
	return names
}

// age sets the mtimes of every object back, as if it had been there for d.
func (r *rig) age(d time.Duration, match func(name string) bool) {
	r.t.Helper()
	for _, under := range []string{"packs", "snapshots", "trash", "incoming"} {
		for _, name := range r.objects(under) {
			if !match(name) {
				continue
			}
			path := filepath.Join(r.root, name)
			info, err := os.Stat(path)
			r.check(err)
			r.check(os.Chtimes(path, time.Time{}, info.ModTime().Add(-d)))
		}
	}
}

func everything(string) bool { return true }

// openFiles counts this process's descriptors.
func openFiles(t testing.TB) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// blocks returns how much a file takes on the disk.
func blocks(t testing.TB, path string) int64 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

// signers are those that a reader of the rig's vault believes.
func (r *rig) signers() crypt.Signers { return crypt.Signers{r.signer.AuthorizedKey()} }
