package offsite_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/snapshot"
)

// cutRemote breaks the connection in its n-th Put: after some bytes, or after
// the object was stored and only the answer is lost. From then on nothing works.
type cutRemote struct {
	offsite.Remote
	mu     sync.Mutex
	left   int // Puts that still work
	after  bool
	broken bool
	sent   int64
	hook   func(name string) // called before each Put
}

var errCut = &failure.Error{Op: "store", Kind: failure.Unreachable, Err: errors.New("the connection was cut")}

func (c *cutRemote) Put(ctx context.Context, name string, r io.Reader) (int64, error) {
	if c.hook != nil {
		c.hook(name)
	}
	_, statErr := c.Stat(ctx, name)
	c.mu.Lock()
	if c.broken {
		c.mu.Unlock()
		return 0, errCut
	}
	if statErr == nil { // that it exists is soon said
		c.mu.Unlock()
		return c.Remote.Put(ctx, name, r)
	}
	c.left--
	cut := c.left < 0
	c.broken = c.broken || cut
	c.mu.Unlock()
	if cut && !c.after {
		_, _ = io.CopyN(io.Discard, r, 100)
		return 0, errCut
	}
	n, err := c.Remote.Put(ctx, name, r)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent += n
	if cut {
		return 0, errCut
	}
	return n, err
}

func (c *cutRemote) List(ctx context.Context, dir string) ([]offsite.Entry, error) {
	c.mu.Lock()
	broken := c.broken
	c.mu.Unlock()
	if broken {
		return nil, errCut
	}
	return c.Remote.List(ctx, dir)
}

// The connection is cut in each Put in turn. Until the signature there is no
// snapshot, nothing is left half, and what arrived is not sent again.
func TestResume(t *testing.T) {
	for name, after := range map[string]bool{"cut inside": false, "answer lost": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			real := r.remote
			s := newStore(11)
			r.push(r.take(s, stampOf(0), true))
			s.day()
			s.files["chroma/new.bin"] = noise(77, 20<<20) // three packs
			src := r.take(s, stampOf(1), true)
			files := openFiles(t)
			goroutines := runtime.NumGoroutine()
			sent, attempts := int64(0), 0
			for done := false; !done; attempts++ {
				cut := &cutRemote{Remote: real, left: 1, after: after}
				vault, err := offsite.OpenVault(context.Background(), cut)
				r.check(err)
				_, err = vault.Push(context.Background(), src, r.pushOptions())
				sent += cut.sent
				switch done = err == nil; {
				case attempts > 30:
					t.Fatal("it never ends")
				case done:
				case failure.KindOf(err) != failure.Unreachable:
					t.Fatalf("attempt %d: %v", attempts, err)
				case !after && len(r.list()) != 1:
					t.Fatalf("attempt %d: it exists", attempts)
				}
			}
			if attempts < 4 {
				t.Errorf("done after %d attempts", attempts)
			}
			if sent > 33<<20 { // what was under way when it was cut goes twice
				t.Errorf("%d bytes were sent", sent)
			}
			if n := openFiles(t); n > files {
				t.Errorf("%d files are open, %d were", n, files)
			}
			if n := runtime.NumGoroutine(); n > goroutines+1 {
				t.Errorf("%d goroutines, there were %d", n, goroutines)
			}
			r.wantPull(src)
			r.wantRecover(src)
			left, _ := filepath.Glob(filepath.Join(offsite.StateDir(r.stateDir, "laptop"), "spool", "*"))
			if len(left) > 0 {
				t.Errorf("spooled still: %q", left)
			}
			s.day()
			next := r.take(s, stampOf(2), true)
			if pushed := r.push(next); pushed.Base || len(pushed.Warnings)+len(pushed.Damage) > 0 {
				t.Errorf("then: %+v", pushed)
			}
			r.wantPull(next)
		})
	}
}

// A push that is sealed is published with the very same bytes.
func TestRepeatWritesTheSameBytes(t *testing.T) {
	r := newRig(t)
	real := r.remote
	src := r.take(newStore(12), stampOf(0), true)
	cut := &cutRemote{Remote: real, left: 1 << 20}
	var seen []string
	cut.hook = func(name string) {
		seen = append(seen, name)
		if strings.HasSuffix(name, ".sig") {
			cut.broken = true
		}
	}
	vault, err := offsite.OpenVault(context.Background(), cut)
	r.check(err)
	if _, err := vault.Push(context.Background(), src, r.pushOptions()); failure.KindOf(err) != failure.Unreachable {
		t.Fatal(err)
	}
	if len(r.list()) != 0 {
		t.Error("it exists without its signature")
	}
	before := len(r.objects("packs"))
	r.seq = 41 // a later number does not change what is sealed
	pushed := r.push(src)
	if after := len(r.objects("packs")); after != before || pushed.Seq != 0 {
		t.Errorf("%d packs, then %d; seq %d", before, after, pushed.Seq)
	}
	for _, name := range seen {
		if strings.HasPrefix(name, "snapshots/") && !strings.HasPrefix(name, "snapshots/"+string(pushed.Push)) {
			t.Errorf("%s was written by another push than %s", name, pushed.Push)
		}
	}
	r.wantPull(src)
	r.wantStockTools(pushed.Push)
}

// What arrived for a snapshot is worth nothing to another content under its
// name, nor against another base.
func TestResumeOfSomethingElse(t *testing.T) {
	r := newRig(t)
	real := r.remote
	s := newStore(13)
	cutPush := func(src offsite.Source, left int) {
		vault, err := offsite.OpenVault(context.Background(), &cutRemote{Remote: real, left: left})
		r.check(err)
		_, err = vault.Push(context.Background(), src, r.pushOptions())
		if failure.KindOf(err) != failure.Unreachable {
			t.Fatal(err)
		}
	}
	r.push(r.take(s, stampOf(0), true))
	s.day()
	first := r.take(s, stampOf(1), true)
	cutPush(first, 1) // the patches are there, the manifest is not
	order := offsite.InterruptedFirst(
		offsite.StateDir(r.stateDir, "laptop"), []snapshot.Stamp{stampOf(3), stampOf(2), stampOf(1)},
	)
	if !slices.Equal(order, []snapshot.Stamp{stampOf(1), stampOf(3), stampOf(2)}) {
		t.Errorf("the order is %v", order)
	}
	s.day()
	second := r.take(s, stampOf(2), true)
	r.options = func(o *offsite.PushOptions) { o.Rebase = true }
	r.push(second) // another base
	r.options = nil
	r.push(first)
	r.wantPull(first)
	r.wantPull(second)

	third := r.take(s, stampOf(3), true)
	cutPush(third, 1)
	s.day()
	r.check(os.RemoveAll(third.Dir))
	third = r.take(s, stampOf(3), true)
	r.push(third)
	r.wantPull(third)
	s.day()
	fourth := r.take(s, stampOf(4), true)
	r.push(fourth)
	r.wantPull(fourth)
}

// Patches arrived, and then their base changed; or the file has grown since its
// base. A patch is only good on what it was made against.
func TestResumePatches(t *testing.T) {
	for name, between := range map[string]func(r *rig){
		"same base": func(*rig) {},
		"another base": func(r *rig) {
			usual := r.options
			r.options = func(o *offsite.PushOptions) { o.Rebase = true }
			r.push(r.snapshot(stampOf(2), map[string][]byte{"db/atocore.db": noise(3, 3<<20)}))
			r.options = usual
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.options = func(o *offsite.PushOptions) { o.RebaseRatio = 100 }
			real := r.remote
			r.push(r.snapshot(stampOf(0), map[string][]byte{"db/atocore.db": noise(1, 2<<20+50000)}))
			src := r.snapshot(stampOf(1), map[string][]byte{"db/atocore.db": noise(2, 14<<20)})
			vault, err := offsite.OpenVault(context.Background(), &cutRemote{Remote: real, left: 1})
			r.check(err)
			_, err = vault.Push(context.Background(), src, r.pushOptions())
			if failure.KindOf(err) != failure.Unreachable {
				t.Fatal(err)
			}
			between(r)
			r.push(src)
			r.wantPull(src)
			next := r.snapshot(stampOf(3), map[string][]byte{"db/atocore.db": append(noise(2, 14<<20), "more"...)})
			if pushed := r.push(next); pushed.Base {
				t.Errorf("growth is no new base: %+v", pushed)
			}
			r.wantPull(next)
		})
	}
}

func TestCancelLeavesNothing(t *testing.T) {
	r := newRig(t)
	src := r.snapshot(stampOf(0), map[string][]byte{"chroma/data_level0.bin": noise(1, 40<<20)})
	ctx, cancel := context.WithCancel(context.Background())
	o := r.pushOptions()
	o.Progress = func(_ string, done, total int64) {
		if done > total/2 {
			cancel()
		}
	}
	_, err := r.vault.Push(ctx, src, o)
	if failure.KindOf(err) != failure.Interrupted {
		t.Fatal(err)
	}
	if left := r.objects("incoming"); len(left) > 0 {
		t.Errorf("left in incoming: %q", left)
	}
	if len(r.list()) != 0 {
		t.Error("it exists")
	}
	r.push(src)
	r.wantPull(src)
}

// A real sshd is cut off in the middle of packs, again and again.
func TestResumeOverSSH(t *testing.T) {
	r, server := newSSHRig(t)
	src := r.snapshot(
		stampOf(0),
		map[string][]byte{"chroma/data_level0.bin": noise(1, 60<<20), "db/atocore.db": text(1, 1<<20)},
	)
	attempts := 0
	for ; ; attempts++ {
		vault, err := offsite.OpenVault(context.Background(), dialSSH(t, server, r.root))
		r.check(err)
		o := r.pushOptions()
		var once sync.Once
		if attempts < 4 {
			o.Progress = func(_ string, done, total int64) {
				if done > total*int64(attempts+1)/6 {
					once.Do(server.DropSessions)
				}
			}
		}
		_, err = vault.Push(context.Background(), src, o)
		if err == nil {
			break
		}
		if failure.KindOf(err) != failure.Unreachable || attempts > 5 {
			t.Fatalf("attempt %d: %v", attempts, err)
		}
	}
	if attempts == 0 {
		t.Error("it was never cut")
	}
	vault, err := offsite.OpenVault(context.Background(), dialSSH(t, server, r.root))
	r.check(err)
	r.vault = vault
	r.wantPull(src)
	stored, _, err := vault.Find(context.Background(), "latest", r.signers())
	r.check(err)
	r.wantStockTools(stored.Push)
}
