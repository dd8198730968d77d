package offsite_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/atocore/atobackupd/crypt"
)

// The vault here is put together by hand from the description of its format,
// and not by the code that pushes: recover.py must read the format, not one
// program's habits.

const (
	recoverStamp = "20260407T060000Z"
	recoverPush  = recoverStamp + "-0a1b2c"
	pageSize     = 4096
)

type run [4]int64

type recoverFile struct {
	Path   string `json:"path"`
	Type   string `json:"type"`
	Size   int64  `json:"size"`
	Mode   int64  `json:"mode"`
	UID    int    `json:"uid"`
	GID    int    `json:"gid"`
	MTime  string `json:"mtime"`
	SHA256 string `json:"sha256,omitempty"`
	Target string `json:"target,omitempty"`
	Base   []run  `json:"base"` // null where there is none, as Go writes it
	Patch  []run  `json:"patch"`
}

type recoverManifest struct {
	Format     int           `json:"format"`
	Stamp      string        `json:"stamp"`
	Created    string        `json:"created"`
	Host       string        `json:"host"`
	PageSize   int           `json:"page_size"`
	Packs      []string      `json:"packs"`
	Metadata   string        `json:"metadata"`
	Atobackupd string        `json:"atobackupd"`
	Files      []recoverFile `json:"files"`
}

// recoverVault is a small vault under construction.
type recoverVault struct {
	t          testing.TB
	python     []string // -X dev makes it report what it only tolerates
	dir        string
	identity   string
	recipients *crypt.Recipients
	signer     *crypt.Signer
	packs      map[string][]byte // pages by pack
	manifest   recoverManifest
	want       map[string][]byte // content by path
}

func newRecoverVault(t testing.TB) *recoverVault {
	t.Helper()
	keys := t.TempDir()
	v := &recoverVault{t: t, python: []string{python(t), "-B", "-X", "dev"}, dir: t.TempDir(),
		identity: filepath.Join(keys, "key.txt"), want: make(map[string][]byte)}
	recipient, err := crypt.WriteIdentity(v.identity)
	v.check(err)
	v.recipients, err = crypt.ParseRecipients([]string{recipient})
	v.check(err)
	v.signer, _, err = crypt.LoadOrCreateSigner(filepath.Join(keys, "signing_key"))
	v.check(err)
	for _, dir := range []string{"packs", "snapshots", "trash", "incoming"} {
		v.check(os.Mkdir(filepath.Join(v.dir, dir), 0o755))
	}
	script, err := os.ReadFile("recover.py")
	v.check(err)
	v.write("recover.py", script)
	v.write("vault.json", v.json(map[string]any{
		"format": "atobackup-vault", "version": 1, "vault_id": "v", "signer": v.signer.AuthorizedKey(),
	}))
	v.fill()
	return v
}

// fill describes a snapshot with every feature of the format: two layers, a
// hole, a page that two files share, pages that nobody needs, a last page that
// is not full, an empty file, links, modes, and a run longer than recover.py
// holds in memory.
func (v *recoverVault) fill() {
	random := rand.NewChaCha8([32]byte{1})
	base, patch := make([]byte, 700*pageSize), make([]byte, 5*pageSize)
	_, _ = random.Read(base)
	_, _ = random.Read(patch)
	zeroAfter(base[599*pageSize:600*pageSize], 100)
	const old, now = "20260401T060000Z-ffeedd-000000", recoverPush + "-000000"
	v.packs = map[string][]byte{old: base, now: patch}
	v.manifest = recoverManifest{
		Format: 1, Stamp: recoverStamp, Created: "2026-04-07T06:00:01Z", Host: "dalidou", PageSize: pageSize,
		Packs:      []string{old, now},
		Metadata:   "{\"created_at\": \"2026-04-07\",\n \"ü\": 1}\n",
		Atobackupd: `{"schema": 1}`,
	}
	page := func(pack []byte, n int64) []byte { return pack[n*pageSize : (n+1)*pageSize] }

	// db: pages 0-599 from the base, 600-603 a hole, page 2 and 602 patched,
	// the last page 604 patched only and cut.
	db := make([]byte, 605*pageSize)
	copy(db, base[:600*pageSize])
	xor(page(db, 2), page(patch, 0))
	xor(page(db, 602), page(patch, 3))
	xor(page(db, 604), page(patch, 1))
	v.file(
		"db/atocore.db", db[:604*pageSize+17], 0o640, []run{{0, 600, 0, 0}},
		[]run{{604, 1, 1, 1}, {2, 1, 1, 0}, {602, 1, 1, 3}},
	)

	v.file("config/project-registry.json", bytes.Clone(page(base, 599)[:100]), 0o4755, []run{{0, 1, 0, 599}}, nil)
	segment := slices.Concat(page(base, 698), page(base, 10), page(base, 11))
	v.file("chroma/a b/datä\n.bin", segment, 0o400, []run{{0, 1, 0, 698}, {1, 2, 0, 10}}, nil)
	v.file("chroma/empty", nil, 0o600, nil, nil)
	v.file("chroma/zeros", make([]byte, 1<<20), 0o600, nil, nil)
	v.manifest.Files = append(
		v.manifest.Files,
		recoverFile{Path: "chroma/a b", Type: "dir", Mode: 0o2555, MTime: "2025-01-02T03:04:05.000000006+02:00"},
		recoverFile{Path: "chroma", Type: "dir", Mode: 0o750, MTime: "2024-02-29T00:00:00Z"},
		recoverFile{
			Path: "chroma/link", Type: "symlink", Mode: 0o777, MTime: "2023-01-01T00:00:00.5Z",
			Target: "a b/../zeros",
		},
		recoverFile{Path: "chroma/nothing", Type: "dir", Mode: 0o700, MTime: "2024-02-29T00:00:00Z"},
	)
}

// copy returns a published vault's twin, to be harmed. Its Python starts faster.
func (v *recoverVault) copy(t testing.TB) *recoverVault {
	t.Helper()
	twin := *v
	twin.t, twin.dir, twin.python = t, t.TempDir(), []string{v.python[0], "-I", "-S", "-B"}
	twin.packs = maps.Clone(v.packs)
	twin.manifest = recoverManifest{} // or the two would share its slices
	twin.check(json.Unmarshal(v.json(v.manifest), &twin.manifest))
	twin.check(os.CopyFS(twin.dir, os.DirFS(v.dir)))
	return &twin
}

func (v *recoverVault) file(path string, content []byte, mode int64, base, patch []run) {
	sum := sha256.Sum256(content)
	v.want[path] = content
	v.manifest.Files = append(v.manifest.Files, recoverFile{
		Path: path, Type: "file", Size: int64(len(content)), Mode: mode, UID: 1000, GID: 1001,
		MTime:  "2026-04-07T05:59:58.123456789Z",
		SHA256: hex.EncodeToString(sum[:]), Base: base, Patch: patch,
	})
}

// publish writes packs, manifest, json, digests and signature.
func (v *recoverVault) publish() {
	v.t.Helper()
	for pack, pages := range v.packs {
		v.write("packs/"+pack+".age", v.seal(pages))
	}
	v.publishManifest(v.json(v.manifest))
}

func (v *recoverVault) publishManifest(manifest []byte) {
	v.t.Helper()
	v.write("snapshots/"+recoverPush+".manifest.age", v.seal(manifest))
	v.write(
		"snapshots/"+recoverPush+".json",
		v.json(map[string]any{"stamp": recoverStamp, "kind": "weekly", "full": true, "pinned": false, "seq": 7}),
	)
	v.sign()
}

// sign writes SHA256SUMS over what is there, and the signature.
func (v *recoverVault) sign() {
	v.t.Helper()
	names := []string{"snapshots/" + recoverPush + ".manifest.age", "snapshots/" + recoverPush + ".json"}
	for pack := range v.packs {
		names = append(names, "packs/"+pack+".age")
	}
	slices.Sort(names)
	var sums []byte
	for _, name := range names {
		sum := sha256.Sum256(v.read(name))
		sums = fmt.Appendf(sums, "%x  %s\n", sum, name)
	}
	v.signSums(sums)
}

func (v *recoverVault) signSums(sums []byte) {
	v.t.Helper()
	signature, err := v.signer.Sign(sums)
	v.check(err)
	v.write("snapshots/"+recoverPush+".SHA256SUMS", sums)
	v.write("snapshots/"+recoverPush+".SHA256SUMS.sig", signature)
}

func (v *recoverVault) seal(plain []byte) []byte {
	v.t.Helper()
	var sealed bytes.Buffer
	w, err := v.recipients.Seal(&sealed)
	v.check(err)
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
	v.check(err)
	_, err = z.Write(plain)
	v.check(errors.Join(err, z.Close(), w.Close()))
	return sealed.Bytes()
}

func (v *recoverVault) json(value any) []byte {
	v.t.Helper()
	data, err := json.Marshal(value)
	v.check(err)
	return data
}

func (v *recoverVault) write(name string, data []byte) {
	v.t.Helper()
	v.check(os.WriteFile(filepath.Join(v.dir, name), data, 0o644))
}

func (v *recoverVault) read(name string) []byte {
	v.t.Helper()
	data, err := os.ReadFile(filepath.Join(v.dir, name))
	v.check(err)
	return data
}

func (v *recoverVault) check(err error) {
	v.t.Helper()
	if err != nil {
		v.t.Fatal(err)
	}
}

// run starts recover.py.
func (v *recoverVault) run(env []string, args ...string) (code int, stdout, stderr string) {
	v.t.Helper()
	cmd := exec.Command(v.python[0], slices.Concat(v.python[1:], []string{filepath.Join(v.dir, "recover.py")}, args)...)
	cmd.Env = append(os.Environ(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		v.t.Fatal(err)
	}
	if text := errs.String(); strings.Contains(text, "Traceback") || strings.Contains(text, "Warning:") {
		v.t.Errorf("recover.py %q: %s", args, text)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// restore runs a restore to a new directory, with the signer known.
func (v *recoverVault) restore() (to string, code int, stdout, stderr string) {
	v.t.Helper()
	to = filepath.Join(v.t.TempDir(), "restored")
	code, stdout, stderr = v.run(
		nil, recoverStamp, "--identity", v.identity, "--to", to, "--signer",
		v.signer.AuthorizedKey()+" from the sheet",
	)
	return to, code, stdout, stderr
}

// refuses wants a restore to fail with an error that says all of says, and to
// leave nothing.
func (v *recoverVault) refuses(says ...string) {
	v.t.Helper()
	to, code, stdout, stderr := v.restore()
	if code != 1 || stdout != "" {
		v.t.Errorf("exit %d, %s", code, stdout)
	}
	for _, say := range says {
		if !strings.Contains(stderr, say) {
			v.t.Errorf("%q does not say %q", stderr, say)
		}
	}
	checkEmpty(v.t, filepath.Dir(to))
}

func checkEmpty(t testing.TB, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestRecoverRestoresAll(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	v := newRecoverVault(t)
	v.publish()
	// Prune on the other machine has moved one pack.
	old := v.manifest.Packs[0] + ".age"
	v.check(os.Rename(filepath.Join(v.dir, "packs", old), filepath.Join(v.dir, "trash", old)))

	to, code, stdout, stderr := v.restore()
	if code != 0 || !strings.Contains(stdout, "restored "+recoverStamp+" (weekly, from dalidou)") ||
		strings.Contains(stderr, "warning") {
		t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
	}
	v.checkRestored(to)
	checkOnlyEntry(t, filepath.Dir(to), "restored")
}

// removable lets whoever is not root remove what came back.
func (v *recoverVault) removable(to string) {
	v.t.Cleanup(func() { _ = os.Chmod(filepath.Join(to, "chroma/a b"), 0o700) })
}

func (v *recoverVault) checkRestored(to string) {
	v.t.Helper()
	v.removable(to)
	want := map[string][]byte{
		"backup-metadata.json": []byte(v.manifest.Metadata),
		"atobackupd.json":      []byte(v.manifest.Atobackupd),
	}
	for path, content := range v.want {
		want[path] = content
	}
	for path, content := range want {
		got, err := os.ReadFile(filepath.Join(to, path))
		if err != nil || !bytes.Equal(got, content) {
			v.t.Errorf("%q: %d bytes came back of %d, %v", path, len(got), len(content), err)
		}
		if info, err := os.Stat(filepath.Join(to, path)); err == nil && info.Mode()&0o022 != 0 {
			v.t.Errorf("%q has mode %o", path, info.Mode())
		}
	}
	for _, f := range v.manifest.Files {
		info, err := os.Lstat(filepath.Join(to, f.Path))
		v.check(err)
		mtime, err := time.Parse(time.RFC3339Nano, f.MTime)
		v.check(err)
		if !info.ModTime().Equal(mtime) {
			v.t.Errorf("%s: mtime %v, want %v", f.Path, info.ModTime(), mtime)
		}
		stat := info.Sys().(*syscall.Stat_t)
		if f.Type != "symlink" && int64(stat.Mode&0o7777) != f.Mode&0o777 {
			v.t.Errorf("%s: mode %o, want %o", f.Path, stat.Mode&0o7777, f.Mode&0o777)
		}
		if os.Geteuid() == 0 && (int(stat.Uid) != f.UID || int(stat.Gid) != f.GID) {
			v.t.Errorf("%s: owner %d:%d, want %d:%d", f.Path, stat.Uid, stat.Gid, f.UID, f.GID)
		}
		want[f.Path] = nil
	}
	if target, err := os.Readlink(filepath.Join(to, "chroma/link")); err != nil || target != "a b/../zeros" {
		v.t.Errorf("link to %q, %v", target, err)
	}
	v.check(filepath.WalkDir(to, func(path string, _ fs.DirEntry, err error) error {
		name := strings.TrimPrefix(strings.TrimPrefix(path, to), "/")
		if _, ok := want[name]; !ok && name != "" && name != "db" && name != "config" {
			v.t.Errorf("%q was not in the snapshot", name)
		}
		return err
	}))
}

func checkOnlyEntry(t testing.TB, dir, name string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != name {
		t.Errorf("%s holds %v, %v", dir, entries, err)
	}
}

func TestRecoverIntoAnEmptyDirectory(t *testing.T) {
	v := newRecoverVault(t)
	v.manifest.Metadata, v.manifest.Atobackupd = "", ""
	v.file("backup-metadata.json", []byte{}, 0o600, nil, nil)
	v.publish()
	to := t.TempDir()
	v.check(os.Chmod(to, 0o751))
	code, stdout, stderr := v.run(nil, "latest", "--identity", v.identity, "--to", to, "--vault", v.dir)
	if code != 0 {
		t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
	}
	v.removable(to)
	// Without --signer the check proves less, and says so.
	if !strings.Contains(stderr, "not its own witness") {
		t.Errorf("stderr: %s", stderr)
	}
	if info, err := os.Stat(to); err != nil || info.Mode().Perm() != 0o751 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := os.Lstat(filepath.Join(to, "atobackupd.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that the snapshot does not have: %v", err)
	}
	if got, err := os.ReadFile(filepath.Join(to, "db/atocore.db")); err != nil ||
		!bytes.Equal(got, v.want["db/atocore.db"]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// A resumed push of the same stamp has a higher seq; a torn json must not hide
// a sound push.
func TestRecoverTakesTheNewestPush(t *testing.T) {
	v := newRecoverVault(t)
	v.publish()
	for push, text := range map[string]string{
		recoverStamp + "-ffffff": `{"kind": "weekly", "seq": 6}`, recoverStamp + "-fffffe": `{"kind"`,
		"20260408T060000Z-000001": `{"kind": "pre-restore", "full": true, "pinned": true, "seq": 8}`,
	} {
		v.write("snapshots/"+push+".json", []byte(text))
		v.write("snapshots/"+push+".SHA256SUMS.sig", nil)
	}
	v.write("snapshots/20260409T060000Z-000001.SHA256SUMS", nil) // never signed: not there
	to := filepath.Join(t.TempDir(), "restored")
	code, stdout, stderr := v.run(nil, "latest", "--identity", v.identity, "--to", to)
	if code != 0 {
		t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
	}
	v.checkRestored(to)

	code, stdout, stderr = v.run([]string{"PATH=/nonexistent"}, "--list")
	want := []string{"STAMP KIND FULL PINNED PUSH", recoverStamp + " ? no no " + recoverStamp + "-fffffe",
		recoverStamp + " weekly no no " + recoverStamp + "-ffffff", recoverStamp + " weekly yes no " + recoverPush,
		"20260408T060000Z pre-restore yes yes 20260408T060000Z-000001"}
	var got []string
	for line := range strings.Lines(stdout) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	if code != 0 || stderr != "" || !slices.Equal(got, want) {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
}

func TestRecoverKeysBehindAPassphraseOrAPipe(t *testing.T) {
	v := newRecoverVault(t)
	v.publish()
	to := filepath.Join(t.TempDir(), "restored")
	cmd := exec.Command("bash", "-c", `exec python3 "$1" latest --to "$2" --identity <(cat "$3")`, "bash",
		filepath.Join(v.dir, "recover.py"), to, v.identity)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	v.checkRestored(to)

	locked := filepath.Join(t.TempDir(), "id")
	if out, err := exec.Command(
		"ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", locked,
	).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	v.identity = locked
	v.refuses(locked, "passphrase", "ssh-keygen -p")
}

func TestRecoverSyntaxIsPython39(t *testing.T) {
	const check = `import ast, sys; ast.parse(open(sys.argv[1]).read(), feature_version=(3, 9))`
	if out, err := exec.Command("python3", "-c", check, "recover.py").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	compiled := filepath.Join(t.TempDir(), "recover.pyc")
	const compile = `import py_compile, sys; py_compile.compile(sys.argv[1], sys.argv[2], doraise=True)`
	if out, err := exec.Command(
		"python3", "-W", "error", "-c", compile, "recover.py", compiled,
	).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestRecoverUsage(t *testing.T) {
	v := newRecoverVault(t)
	v.publish()
	full := t.TempDir()
	v.check(os.WriteFile(filepath.Join(full, "x"), nil, 0o600))
	to := filepath.Join(t.TempDir(), "to")
	for name, c := range map[string]struct {
		code int
		says string
		args []string
	}{
		"nothing":        {2, "--list shows what there is", nil},
		"a bad stamp":    {2, "is not a stamp", []string{"yesterday", "--identity", v.identity, "--to", to}},
		"no identity":    {2, "needs --identity", []string{"latest", "--to", to}},
		"no destination": {2, "--to DIR", []string{"latest", "--identity", v.identity}},
		"both":           {2, "takes no STAMP", []string{"latest", "--list"}},
		"unknown stamp": {
			1, "there is no snapshot 20200101T000000Z",
			[]string{"20200101T000000Z", "--identity", v.identity, "--to", to},
		},
		"no vault":  {1, "this is not a vault", []string{"--list", "--vault", full}},
		"not empty": {1, "is not empty", []string{"latest", "--identity", v.identity, "--to", full}},
		"in the vault": {
			1, "is inside the vault",
			[]string{"latest", "--identity", v.identity, "--to", filepath.Join(v.dir, "out")},
		},
		"not a directory": {1, "is not a directory", []string{"latest", "--identity", v.identity, "--to", v.identity}},
		"absent identity": {1, "cannot be read", []string{"latest", "--identity", to + ".txt", "--to", to}},
		"a bad signer": {
			1, "is not a public key",
			[]string{"latest", "--identity", v.identity, "--to", to, "--signer", "ssh-rsa AAAA"},
		},
		"two line signer": {
			1, "is not a public key",
			[]string{"latest", "--identity", v.identity, "--to", to, "--signer", "x\n" + v.signer.AuthorizedKey()},
		},
		"a wrong identity": {
			1, "age failed", []string{"latest", "--identity", newRecoverVault(t).identity, "--to", to},
		},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := v.run(nil, c.args...)
			if code != c.code || stdout != "" || !strings.Contains(stderr, c.says) {
				t.Errorf("exit %d, want %d with %q\n%s%s", code, c.code, c.says, stdout, stderr)
			}
		})
	}
	checkEmpty(t, filepath.Dir(to))
}

// Whoever can write into the vault plants a module that Python would take first.
func TestRecoverTakesNoModuleFromTheVault(t *testing.T) {
	v := newRecoverVault(t)
	v.publish()
	script, err := os.ReadFile("recover.py")
	v.check(err)
	v.check(os.WriteFile(filepath.Join(v.dir, "recover.py"), script, 0o600))
	for _, module := range []string{"argparse", "json", "hashlib", "tempfile", "subprocess"} {
		v.check(os.WriteFile(filepath.Join(v.dir, module+".py"), []byte("import os\nos.abort()\n"), 0o600))
	}
	for _, isolated := range [][]string{nil, {"-I"}} {
		command := exec.Command(python(t), append(isolated, filepath.Join(v.dir, "recover.py"), "--list")...)
		command.Dir = v.dir
		if out, err := command.CombinedOutput(); err != nil || !strings.Contains(string(out), "STAMP") {
			t.Errorf("%q: %v\n%s", isolated, err, out)
		}
	}
}

// Several signers may be named, and the reader's own list goes before the vault's
// word.
func TestRecoverKnowsSigners(t *testing.T) {
	v := newRecoverVault(t)
	v.publish()
	other := newRecoverVault(t)
	to := filepath.Join(t.TempDir(), "to")
	own, foreign := v.signer.AuthorizedKey(), other.signer.AuthorizedKey()
	if code, _, stderr := v.run(
		nil, "latest", "--identity", v.identity, "--to", to, "--signer", foreign, "--signer", own,
	); code != 0 {
		t.Errorf("two signers: exit %d\n%s", code, stderr)
	}
	if code, _, stderr := v.run(
		nil, "latest", "--identity", v.identity, "--to", to+"2", "--signer", foreign,
	); code != 1 || !strings.Contains(stderr, "does not verify") {
		t.Errorf("a foreign signer: exit %d\n%s", code, stderr)
	}
}

func TestRecoverMissingPrograms(t *testing.T) {
	v := newRecoverVault(t)
	v.publish()
	to := filepath.Join(t.TempDir(), "to")
	restore := []string{"latest", "--identity", v.identity, "--to", to}
	signed := append(slices.Clone(restore), "--signer", v.signer.AuthorizedKey())
	for name, c := range map[string]struct {
		programs, args []string
		code           int
		says           string
	}{
		"age": {
			[]string{"zstd", "ssh-keygen"}, restore, 1,
			"recover.py needs the program age: install it, e.g. apt install age\n",
		},
		"zstd": {
			[]string{"age", "ssh-keygen"}, restore, 1,
			"recover.py needs the program zstd: install it, e.g. apt install zstd\n",
		},
		"ssh-keygen for --signer":  {[]string{"age", "zstd"}, signed, 1, "recover.py needs the program ssh-keygen"},
		"ssh-keygen for no signer": {[]string{"age", "zstd"}, restore, 0, "warning: the program ssh-keygen is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			bin := t.TempDir()
			for _, program := range c.programs {
				path, err := exec.LookPath(program)
				v.check(err)
				v.check(os.Symlink(path, filepath.Join(bin, program)))
			}
			code, _, stderr := v.run([]string{"PATH=" + bin}, c.args...)
			if code != c.code || !strings.Contains(stderr, c.says) {
				t.Errorf("exit %d, want %d with %q\n%s", code, c.code, c.says, stderr)
			}
		})
	}
}

// python returns the interpreter itself: where python3 is a wrapper, it would not
// run with the PATH of a test.
func python(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("python3", "-c", "import os, sys; print(os.path.realpath(sys.executable))").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func xor(dst, src []byte) {
	for i := range dst {
		dst[i] ^= src[i]
	}
}

func zeroAfter(page []byte, n int) { clear(page[n:]) }

func TestRecoverRefusesDamage(t *testing.T) {
	shared := newRecoverVault(t)
	shared.publish()
	manifest, pack := "snapshots/"+recoverPush+".manifest.age", "packs/"+recoverPush+"-000000.age"
	sums := "snapshots/" + recoverPush + ".SHA256SUMS"
	for name, c := range map[string]struct {
		harm func(v *recoverVault)
		says []string
	}{
		"a pack with a turned bit": {func(v *recoverVault) { v.turn(pack, 500) }, []string{pack, "is damaged"}},
		"a cut pack": {
			func(v *recoverVault) { v.write(pack, v.read(pack)[:900]) }, []string{pack, "is damaged"},
		},
		"a missing pack":     {func(v *recoverVault) { v.remove(pack) }, []string{pack, "is missing"}},
		"a missing manifest": {func(v *recoverVault) { v.remove(manifest) }, []string{manifest, "is missing"}},
		"a changed manifest": {func(v *recoverVault) { v.turn(manifest, 300) }, []string{manifest, "is damaged"}},
		"a changed json": {
			func(v *recoverVault) { v.write("snapshots/"+recoverPush+".json", []byte("{}")) },
			[]string{".json", "is damaged"},
		},
		"changed digests": {
			func(v *recoverVault) { v.turn(sums, 3) }, []string{sums, "does not verify", "do not trust"},
		},
		"a forged signature": {func(v *recoverVault) {
			signer, _, err := crypt.LoadOrCreateSigner(filepath.Join(v.t.TempDir(), "forger"))
			v.check(err)
			signature, err := signer.Sign(v.read(sums))
			v.check(err)
			v.write(sums+".sig", signature)
			v.write(
				"vault.json",
				v.json(map[string]any{"format": "atobackup-vault", "version": 1, "signer": signer.AuthorizedKey()}),
			)
		}, []string{sums, "does not verify with the --signer"}},
		"an empty signature": {
			func(v *recoverVault) { v.write(sums+".sig", nil) }, []string{"does not verify"},
		},
		"no digests": {func(v *recoverVault) { v.remove(sums) }, []string{sums, "is missing"}},
		"a newer vault without sums": {
			func(v *recoverVault) { v.write("vault.json", []byte("{")); v.remove(sums) },
			[]string{"vault.json", "going on"},
		},
		"a pack that is a link": {func(v *recoverVault) {
			v.check(os.Rename(filepath.Join(v.dir, pack), filepath.Join(v.dir, "elsewhere")))
			v.check(os.Symlink("../elsewhere", filepath.Join(v.dir, pack)))
		}, []string{pack, "cannot be read"}},
		"a pack that is a pipe": {func(v *recoverVault) {
			v.remove(pack)
			v.check(syscall.Mkfifo(filepath.Join(v.dir, pack), 0o600))
		}, []string{pack, "is not a regular file"}},
		"signed garbage": {
			func(v *recoverVault) { v.signSums([]byte("not a digest\x1b[2J\n")) },
			[]string{sums, `is not a list of digests: not a digest\x1b[2J`},
		},
		"another snapshot's digests": {func(v *recoverVault) {
			own, other := []byte("snapshots/"+recoverPush), []byte("snapshots/20260101T000000Z-000000")
			v.signSums(bytes.ReplaceAll(v.read(sums), own, other))
		}, []string{"names snapshots/20260101T000000Z-000000", "no snapshot of this name"}},
		"digests without the manifest": {func(v *recoverVault) {
			lines := bytes.SplitAfter(v.read(sums), []byte("\n"))
			names := func(l []byte) bool { return bytes.Contains(l, []byte("manifest")) }
			v.signSums(bytes.Join(slices.DeleteFunc(lines, names), nil))
		}, []string{"does not name " + manifest}},
		"a name twice": {
			func(v *recoverVault) { v.signSums(slices.Concat(v.read(sums), v.read(sums))) }, []string{"twice"},
		},
		"a file outside": {
			func(v *recoverVault) { v.signSums([]byte(zeroDigest + "  packs/../../x.age\n")) },
			[]string{"names packs/../../x.age"},
		},
		"a pack that ends early": {
			func(v *recoverVault) { v.packs[recoverPush+"-000000"] = make([]byte, 3*pageSize+1); v.publish() },
			[]string{pack, "ends at page 3, and page 3 is needed"}},
		"a pack with other pages": {
			func(v *recoverVault) { v.packs[recoverPush+"-000000"] = make([]byte, 5*pageSize); v.publish() },
			[]string{"db/atocore.db", "another SHA-256"}},
		"a pack that is not zstd": {
			func(v *recoverVault) { v.write(pack, v.sealRaw(make([]byte, 100000))); v.sign() },
			[]string{pack, "zstd failed"},
		},
		"a pack in the clear": {
			func(v *recoverVault) { v.write(pack, []byte("hello")); v.sign() }, []string{pack, "age failed"},
		},
		"a pack that age refuses": {
			func(v *recoverVault) { v.turn(pack, len(v.read(pack))-3); v.sign() }, []string{pack, "age failed"},
		},
		"a pack that age finds cut": {
			func(v *recoverVault) { v.write(pack, v.read(pack)[:1000]); v.sign() },
			[]string{pack, "age failed"},
		},
		"not a manifest": {
			func(v *recoverVault) { v.publishManifest([]byte("[1]")) }, []string{manifest, "not a JSON object"},
		},
		"not JSON": {
			func(v *recoverVault) { v.publishManifest([]byte("{")) }, []string{manifest, "not valid JSON"},
		},
		"a deep manifest": {
			func(v *recoverVault) { v.publishManifest(bytes.Repeat([]byte("["), 200000)) },
			[]string{manifest, "not valid JSON"},
		},
		"a long number": {func(v *recoverVault) {
			v.publishManifest(slices.Concat([]byte(`{"format":`), bytes.Repeat([]byte("1"), 1<<20), []byte("}")))
		},
			[]string{manifest, "too many digits"}},
		// 8 MiB of blanks in a few bytes, and the limit lowered to match.
		"a bomb for a manifest": {func(v *recoverVault) {
			v.write(
				"recover.py",
				bytes.Replace(v.read("recover.py"), []byte("MANIFEST = 1 << 29"), []byte("MANIFEST = 1 << 22"), 1),
			)
			v.publishManifest(bytes.Repeat([]byte(" "), 8<<20))
		}, []string{manifest, "is larger than 4.0 MiB"}},
	} {
		t.Run(name, func(t *testing.T) {
			v := shared.copy(t)
			c.harm(v)
			v.refuses(c.says...)
		})
	}
}

const zeroDigest = "0000000000000000000000000000000000000000000000000000000000000000"

func (v *recoverVault) turn(name string, at int) {
	v.t.Helper()
	data := v.read(name)
	data[at] ^= 1
	v.write(name, data)
}

func (v *recoverVault) remove(name string) {
	v.t.Helper()
	v.check(os.Remove(filepath.Join(v.dir, name)))
}

func (v *recoverVault) sealRaw(plain []byte) []byte {
	v.t.Helper()
	var sealed bytes.Buffer
	w, err := v.recipients.Seal(&sealed)
	v.check(err)
	_, err = w.Write(plain)
	v.check(errors.Join(err, w.Close()))
	return sealed.Bytes()
}

func TestRecoverRefusesHostileManifests(t *testing.T) {
	shared := newRecoverVault(t)
	shared.publish()
	// first changes the first file, db/atocore.db.
	first := func(change func(f *recoverFile)) func(m *recoverManifest) {
		return func(m *recoverManifest) { change(&m.Files[0]) }
	}
	path := func(p string) func(m *recoverManifest) {
		return first(func(f *recoverFile) { f.Path = p })
	}
	link := func(p, target string) func(m *recoverManifest) {
		return func(m *recoverManifest) {
			m.Files = append(
				m.Files, recoverFile{Path: p, Type: "symlink", MTime: "2026-01-01T00:00:00Z", Target: target},
			)
		}
	}
	base := func(runs ...run) func(m *recoverManifest) {
		return first(func(f *recoverFile) { f.Base = runs })
	}
	type row struct {
		change func(m *recoverManifest)
		says   string
	}
	rows := map[string]row{
		"absolute path":    {path("/etc/passwd"), "/etc/passwd: the path is absolute"},
		"parent":           {path("../x"), "../x: the path has an empty part, . or .."},
		"parent inside":    {path("db/../../x"), "the path has an empty part"},
		"dot":              {path("./x"), "the path has an empty part"},
		"empty part":       {path("db//x"), "the path has an empty part"},
		"slash at the end": {path("db/"), "the path has an empty part"},
		"no path":          {path(""), "a file has no path"},
		"NUL":              {path("db/x\x00y"), `db/x\x00y: the path holds a NUL`},
		"long part":        {path(strings.Repeat("x", 256)), "the path is too long"},
		"long path":        {path(strings.Repeat("x/", 2500) + "x"), "the path is too long"},
		"the same path twice": {
			path("config/project-registry.json"), "config/project-registry.json: the path appears twice",
		},
		"our own file": {path("backup-metadata.json"), "backup-metadata.json: the path appears twice"},
		"inside a file": {
			path("config/project-registry.json/x"),
			"passes through config/project-registry.json, which is a file",
		},
		"inside a link":       {path("chroma/link/x"), "passes through chroma/link, which is a symlink"},
		"inside our own file": {path("atobackupd.json/x"), "passes through atobackupd.json, which is a file"},

		"a link that is absolute":       {link("l", "/etc"), "l: the symlink to /etc leaves the snapshot"},
		"a link that leaves":            {link("chroma/l", "../../x"), "the symlink to ../../x leaves the snapshot"},
		"a link that leaves and enters": {link("l", "../restored/db"), "leaves the snapshot"},
		"a link through a link":         {link("l", "chroma/link/../../.."), "leaves the snapshot"},
		"a link to nothing":             {link("l", ""), "has no usable target"},
		"a link with NUL":               {link("l", "a\x00b"), "has no usable target"},

		"a device": {
			first(func(f *recoverFile) { f.Type = "char" }), "neither file, dir nor symlink but char",
		},
		"a negative size": {first(func(f *recoverFile) { f.Size = -1 }), "its size is not a number"},
		"a size that lies": {
			first(func(f *recoverFile) { f.Size = 1 << 47 }), "its size is not a number up to 64.0 TiB",
		},
		"a bit too much":   {first(func(f *recoverFile) { f.Mode = 0o10000 }), "its mode is not a number"},
		"a negative owner": {first(func(f *recoverFile) { f.UID = -1 }), "its uid is not a number"},
		"no owner":         {first(func(f *recoverFile) { f.GID = 1<<32 - 1 }), "its gid is not a number"},
		"no time": {
			first(func(f *recoverFile) { f.MTime = "yesterday" }), "its mtime is not a time: yesterday",
		},
		"the 30th February": {
			first(func(f *recoverFile) { f.MTime = "2026-02-30T00:00:00Z" }), "its mtime is not a time",
		},
		"no digest": {first(func(f *recoverFile) { f.SHA256 = "abc" }), "db/atocore.db: has no SHA-256"},
		"another digest": {
			first(func(f *recoverFile) { f.SHA256 = zeroDigest }),
			"db/atocore.db: came back with another SHA-256",
		},
		"a file cut short": {
			first(func(f *recoverFile) { f.Size-- }), "db/atocore.db: came back with another SHA-256",
		},
		"two large files": {func(m *recoverManifest) { m.Files[0].Size, m.Files[1].Size = 1<<46, 1<<46 },
			"larger than 64.0 TiB together"},
		"content of a directory": {
			func(m *recoverManifest) { m.Files[5].Base = []run{{0, 1, 0, 0}} }, "is a dir and has content",
		},

		"a run past the file":     {base(run{600, 6, 0, 0}), "the base run [600, 6, 0, 0] lies outside the file"},
		"a run far past the file": {base(run{1 << 39, 1, 0, 0}), "lies outside the file"},
		"a run of nothing":        {base(run{0, 0, 0, 0}), "lies outside the file"},
		"a negative run":          {base(run{-1, 1, 0, 0}), "a base run is not four numbers: [-1, 1, 0, 0]"},
		"a run in no pack":        {base(run{0, 1, 2, 0}), "lies outside every pack"},
		"a run beyond any pack":   {base(run{0, 1, 0, 1 << 20}), "lies outside every pack"},
		"a run past the pack": {
			base(run{0, 1, 0, 700}),
			"packs/20260401T060000Z-ffeedd-000000.age: ends at page 700, and page 700 is needed",
		},
		"overlapping runs": {
			base(run{10, 10, 0, 0}, run{0, 11, 0, 0}), "the base run [10, 10, 0, 0] overlaps another",
		},
		"the same run twice": {
			first(func(f *recoverFile) { f.Patch = append(f.Patch, f.Patch[0]) }),
			"the patch run [604, 1, 1, 1] overlaps another",
		},
		"another format": {func(m *recoverManifest) { m.Format = 2 }, "has another format than 1"},
		"another stamp": {
			func(m *recoverManifest) { m.Stamp = "20260101T000000Z" }, "belongs to snapshot 20260101T000000Z",
		},
		"another page size": {func(m *recoverManifest) { m.PageSize = 512 }, "has another page size"},
		"a pack that is a path": {
			func(m *recoverManifest) { m.Packs[0] = "../../etc/passwd" },
			"../../etc/passwd is not the name of a pack",
		},
		"a pack that is not named": {
			func(m *recoverManifest) { m.Packs[0] = "20260401T060000Z-ffeedd-000009" },
			"which SHA256SUMS does not name",
		},
		"a pack twice": {func(m *recoverManifest) { m.Packs[0] = m.Packs[1] }, "names a pack twice"},
	}
	for name, c := range rows {
		t.Run(name, func(t *testing.T) {
			v := shared.copy(t)
			c.change(&v.manifest)
			v.publishManifest(v.json(v.manifest))
			v.refuses(c.says)
		})
	}
	for name, c := range map[string]struct{ from, to, says string }{
		"a size in words":       {`"size":0`, `"size":"0"`, "its size is not a number"},
		"a size with a point":   {`"size":0`, `"size":0.0`, "its size is not a number"},
		"a mode that is true":   {`"mode":384`, `"mode":true`, "its mode is not a number"},
		"a run of five":         {`[604,1,1,1]`, `[604,1,1,1,1]`, "a patch run is not four numbers"},
		"a run of words":        {`[604,1,1,1]`, `"604"`, "a patch run is not four numbers"},
		"half a character":      {`"path":"chroma/zeros"`, `"path":"\ud800"`, `\ud800: the path is not text`},
		"half in the metadata":  {`"atobackupd":"`, `"atobackupd":"\udfff`, `"atobackupd" is not a text`},
		"metadata as an object": {`"atobackupd":"`, `"atobackupd":{},"x":"`, `"atobackupd" is not a text`},
		"files as an object":    {`"files":[`, `"files":{"a":1},"x":[`, `"files" is not a list`},
		"a file that is a word": {`"files":[`, `"files":["x",`, "file 0 is not an object"},
		"packs as a word":       {`"packs":[`, `"packs":"x","x":[`, `"packs" is not a list`},
	} {
		t.Run(name, func(t *testing.T) {
			v := shared.copy(t)
			text := string(v.json(v.manifest))
			if !strings.Contains(text, c.from) {
				t.Fatalf("%q is not in %s", c.from, text)
			}
			v.publishManifest([]byte(strings.Replace(text, c.from, c.to, 1)))
			v.refuses("snapshots/"+recoverPush+".manifest.age", c.says)
		})
	}
}

// A pack may hold more than a snapshot needs; what comes after the last page
// that is needed is not even decompressed, however much it says it is.
func TestRecoverReadsNoFurtherThanItMust(t *testing.T) {
	v := newRecoverVault(t)
	pack := v.manifest.Packs[1]
	v.packs[pack] = append(v.packs[pack], make([]byte, 64<<20)...)
	v.publish()
	to, code, stdout, stderr := v.restore()
	if code != 0 {
		t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
	}
	v.checkRestored(to)
}

// An interrupted run leaves nothing that looks whole, and cleans up if it can.
func TestRecoverInterrupted(t *testing.T) {
	v := newRecoverVault(t)
	v.publish()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			// An age that waits, so that the signal comes in the middle. Not for
			// ever: one that comes just before Python blocks in a read is seen
			// only after it.
			bin, ready := t.TempDir(), filepath.Join(t.TempDir(), "ready")
			v.check(syscall.Mkfifo(ready, 0o600))
			age, err := exec.LookPath("age")
			v.check(err)
			script := fmt.Sprintf(
				"#!/bin/sh\nif [ -d \"$TO\" ]; then echo > %q; exec sleep 5; fi\nexec %q \"$@\"\n", ready, age,
			)
			v.check(os.WriteFile(filepath.Join(bin, "age"), []byte(script), 0o700))

			parent := t.TempDir()
			to := filepath.Join(parent, "restored")
			cmd := exec.Command(
				v.python[0], "-X", "dev", "-B", filepath.Join(v.dir, "recover.py"), recoverStamp, "--identity",
				v.identity, "--to", to,
			)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "TO="+parent)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			v.check(cmd.Start())
			_, err = os.ReadFile(ready) // returns once age has been started
			v.check(err)
			v.check(cmd.Process.Signal(sig))
			err = cmd.Wait()
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what a killed run leaves behind
			if err == nil {
				t.Fatal("the run ended well")
			}
			if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the destination is there: %v", err)
			}
			if sig != syscall.SIGKILL {
				checkEmpty(t, parent)
				if !strings.Contains(stderr.String(), "interrupted: nothing was restored") {
					t.Errorf("stderr: %s", stderr.String())
				}
			}
		})
	}
}
