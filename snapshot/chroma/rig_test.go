//go:build rig

package chroma

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/provetest"
)

// These tests need a real Chroma server: the Chroma kit in the shared folder
// that ATOBACKUPD_SHARED names, Node 20 with npm, and the sqlite3 program. They
// fail, and say what to install, when one is missing. ATOBACKUPD_RIG_COPIES sets
// how many copies of each kind are made.

// kit returns a directory with the Chroma kit set up. It is kept in the user's
// cache directory, so that the server is downloaded once.
func kit(t *testing.T) string { return kitOf(t, "") }

// kitOf is the kit with another version of the server than its own.
func kitOf(t *testing.T, version string) string {
	t.Helper()
	for _, need := range []string{"node", "npm", "sqlite3"} {
		if _, err := exec.LookPath(need); err != nil {
			t.Fatalf("%v: install nodejs (20 or later), npm and sqlite3", err)
		}
	}
	shared := os.Getenv("ATOBACKUPD_SHARED")
	if shared == "" {
		shared = "../../../shared"
	}
	scripts, err := filepath.Glob(filepath.Join(shared, "chroma", "*.*"))
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no Chroma kit in %s: set ATOBACKUPD_SHARED to the shared folder", shared)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.New()
	for _, script := range scripts {
		data, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(digest, "%s %d\n%s", filepath.Base(script), len(data), data)
	}
	fmt.Fprint(digest, version)
	dir := filepath.Join(cache, "atobackupd-rig", "chroma-"+hex.EncodeToString(digest.Sum(nil)[:6]))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := fsx.LockFile(t.Context(), dir+".lock", "chroma rig test", 5*time.Minute, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	ready := filepath.Join(dir, ".ready")
	if _, err := os.Stat(ready); err == nil {
		return dir
	}
	for _, script := range scripts {
		run(t, "", "cp", script, dir)
	}
	if version != "" {
		run(t, dir, "sed", "-i", `s/\(bindings-linux-x64-gnu": "\)[^"]*/\1`+version+"/", "package.json")
	}
	if strings.HasPrefix(version, "0.") { // which knows embeddings as numbers only
		run(t, dir, "sed", "-i", "s/const b64 = .*/const b64 = (f) => Array.from(f);/", "lib.mjs")
	}
	run(t, dir, "sh", "./setup.sh")
	if err := os.WriteFile(ready, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// run runs a program that must succeed.
func run(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// writer is a real Chroma under a continuous writer.
type writer struct {
	kit, dir, expected, oplog string
	cmd                       *exec.Cmd
}

func startWriter(t *testing.T) *writer { return startWriterIn(t, t.TempDir()) }

func startWriterIn(t *testing.T, into string) *writer { return startWriterOf(t, kit(t), into) }

func startWriterOf(t *testing.T, kit, into string) *writer {
	w := &writer{kit: kit, dir: filepath.Join(into, "live"), expected: filepath.Join(into, "before.json"),
		oplog: filepath.Join(into, "oplog")}
	run(t, w.kit, "node", "gen.mjs", "--dir", w.dir, "--vectors", "3000", "--dim", "32", "--collections", "2",
		"--seed", "3", "--sync", "100")
	run(t, "", "cp", w.dir+".expected.json", w.expected)
	w.cmd = exec.Command("node", "live.mjs", "--dir", w.dir, "--oplog", w.oplog)
	w.cmd.Dir, w.cmd.Stderr = w.kit, os.Stderr
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the server is its child
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = w.cmd.Process.Signal(syscall.SIGCONT)
		_ = w.cmd.Process.Signal(syscall.SIGTERM)
		if err := w.cmd.Wait(); err != nil {
			t.Errorf("the writer ended with %v", err)
		}
	})
	w.awaitPersist(t) // it is up when it has persisted something
	return w
}

// pause and resume keep the store from growing while a copy is judged.
func (w *writer) pause()  { _ = w.cmd.Process.Signal(syscall.SIGSTOP) }
func (w *writer) resume() { _ = w.cmd.Process.Signal(syscall.SIGCONT) }

// awaitPersist returns as soon as the next persist has begun.
func (w *writer) awaitPersist(t *testing.T) {
	t.Helper()
	headers, err := filepath.Glob(filepath.Join(w.dir, "*", headerName))
	if err != nil || len(headers) == 0 {
		t.Fatalf("no segments: %v", err)
	}
	times := func() (all string) {
		for _, h := range headers {
			if info, err := os.Stat(h); err == nil {
				all += info.ModTime().String()
			}
		}
		return all
	}
	before := times()
	for end := time.Now().Add(time.Minute); times() == before; {
		if time.Now().After(end) {
			t.Fatal("Chroma has persisted nothing for a minute")
		}
	}
}

// judged has a copy that was made between t0 and t1 judged by a fresh Chroma
// server, and by the kit's offline inspection.
func (w *writer) judged(copied string, t0, t1 time.Time) error {
	ms := func(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMicro())/1000, 'f', 3, 64) }
	for _, args := range [][]string{
		{"inspect.mjs", "--dir", copied},
		{"check.mjs", "--dir", copied, "--state", w.expected, "--oplog", w.oplog, "--t0", ms(t0), "--t1", ms(t1)},
	} {
		cmd := exec.Command("node", args...)
		cmd.Dir = w.kit
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", args[0], err, out)
		}
	}
	return nil
}

// slowly makes every file's copy wait, as a slow disk would.
func slowly(each time.Duration) (stop func()) {
	return fsx.Observe(func(op fsx.Op, _ string) error {
		if op == fsx.OpCopy {
			time.Sleep(each)
		}
		return nil
	})
}

func copiesOfEachKind(t *testing.T) int { return provetest.Rounds(t, 6) }

// liveCopy is a way to copy a directory that is written to.
type liveCopy struct {
	name  string
	tries int
	slow  time.Duration // a file
}

// TestRigLive copies a directory that a real Chroma is writing to, aimed at the
// moment of a persist. Every copy must be one moment of the writes.
func TestRigLive(t *testing.T) {
	w := startWriter(t)
	for _, kind := range []liveCopy{
		{"optimistic", 5, 0},
		{"write lock", 0, 0},
		{"optimistic, slow", 5, 20 * time.Millisecond},
		{"write lock, slow", 0, 60 * time.Millisecond},
	} {
		w.copies(t, kind, copiesOfEachKind(t))
	}
	w.resume()
}

// TestVersions does the same with other versions of Chroma, each copy judged by
// the version that wrote it: those of the server's npm package.
func TestVersions(t *testing.T) {
	for _, version := range []string{"0.1.2", "1.0.1", "1.1.4"} {
		t.Run(version, func(t *testing.T) {
			w := startWriterOf(t, kitOf(t, version), t.TempDir())
			w.copies(t, liveCopy{"optimistic", 5, 0}, provetest.Rounds(t, 1))
			w.copies(t, liveCopy{"write lock, slow", 0, 60 * time.Millisecond}, provetest.Rounds(t, 1))
			w.resume()
		})
	}
}

// copies makes n copies and has each judged.
func (w *writer) copies(t *testing.T, kind liveCopy, n int) {
	t.Helper()
	into := t.TempDir()
	broken, methods := 0, map[string]int{}
	var held time.Duration
	for i := range n {
		dst := filepath.Join(into, fmt.Sprintf("%s %d", kind.name, i))
		w.resume()
		w.awaitPersist(t)
		stop := slowly(kind.slow)
		t0 := time.Now()
		c, err := CopyLive(t.Context(), dirAt(w.dir), dst, Options{OptimisticTries: kind.tries, Share: true})
		t1 := time.Now()
		stop()
		w.pause()
		if err == nil {
			err = w.judged(dst, t0, t1)
		}
		if err == nil && c.Consistency != Consistent {
			err = errors.New("not consistent")
		}
		if err != nil {
			broken++
			t.Errorf("%s: copy %d (%s): %v", kind.name, i, c.Method, err)
		}
		held = max(held, c.Locked)
		methods[c.Method]++
		if err := os.RemoveAll(dst); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s: %d of %d copies broken; %v; lock held for %v at most", kind.name, broken, n, methods,
		held.Round(time.Millisecond))
	provetest.Points(t, n)
}

// TestRigNaiveCopyBreaks shows that the writer of this rig does harm: copies
// made without any of the checks, slowly, do not all validate.
func TestRigNaiveCopyBreaks(t *testing.T) {
	w := startWriter(t)
	broken, n := 0, 10
	for i := range n {
		w.awaitPersist(t)
		dst := filepath.Join(t.TempDir(), "copy")
		m, err := newMirror(dirAt(w.dir), dst, false, func(string) bool { return false })
		if err != nil {
			t.Fatal(err)
		}
		stop := slowly(60 * time.Millisecond)
		seen, err := m.scan()
		if err == nil {
			err = m.update(context.Background(), seen)
		}
		stop()
		if err != nil {
			t.Fatalf("copy %d: %v", i, err)
		}
		if len(judge(t, dst).Errors) > 0 {
			broken++
		}
	}
	t.Logf("%d of %d naive copies do not validate", broken, n)
	if broken == 0 {
		t.Error("no naive copy broke: the writer is too gentle for this rig to prove anything")
	}
}
