package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/forktest"
	"github.com/atocore/atobackupd/internal/fsx"
)

// TestBusy lets a destination become a mount point between the plan and the
// swap: EBUSY.
func TestBusy(t *testing.T) { runInNamespace(t, "busy") }

// TestCrossDevice lets a part of the workspace become a mount of its own
// between the staging and the swap: the renames into it, or out of it, are
// EXDEV.
func TestCrossDevice(t *testing.T) { runInNamespace(t, "cross") }

// TestSiblingMounts restores where every live directory and the backups are
// bind mounts of one file system, side by side, and the registry's file is one
// too: no rename crosses from one to another.
func TestSiblingMounts(t *testing.T) { runInNamespace(t, "siblings") }

// TestRefusesMountsInside plans over mount points that could not be exchanged.
func TestRefusesMountsInside(t *testing.T) { runInNamespace(t, "nested") }

func runInNamespace(t *testing.T, role string) {
	t.Helper()
	t.Parallel()
	out, err := forktest.OwnProcesses(again(role, nil, "TMPDIR="+t.TempDir())).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s (%s)", err, out, forktest.NeedsNamespaces)
	}
	t.Logf("%s", out)
}

// mountInSwap has fn called once, as soon as the swap has been announced, and
// restores.
func (s scene) mountInSwap(fn func(j *Journal) error) error {
	r, err := s.request()
	if err != nil {
		return err
	}
	r.NoPreSnapshot = true
	called := false
	stop := fsx.Observe(func(fsx.Op, string) error {
		j, err := pendingIn(s.backups())
		if called || err != nil || j == nil || j.Phase != PhaseSwapping {
			return nil
		}
		called = true
		return fn(j)
	})
	defer stop()
	_, err = Run(context.Background(), r)
	if !called {
		return fmt.Errorf("the swap was never seen: %w", err)
	}
	return err
}

func busyMain([]byte) error {
	dir, err := forktest.Room()
	if err != nil {
		return err
	}
	s, err := makeScene(filepath.Join(dir, "base"))
	if err != nil {
		return err
	}
	old, err := s.print()
	if err != nil {
		return err
	}
	for _, victim := range []string{
		s.live().Registry,
		s.live().DB,
		filepath.Join(s.live().Chroma, "seg"),
		filepath.Join(s.live().Chroma, "both.bin"),
	} {
		err := s.mountInSwap(func(*Journal) error { return forktest.BindOver(victim) })
		if err == nil || !strings.Contains(err.Error(), "busy") ||
			!strings.Contains(err.Error(), "everything was put back") {
			return fmt.Errorf("%s: got %v", victim, err)
		}
		if err := unix.Unmount(victim, 0); err != nil {
			return err
		}
		now, err := s.print()
		if err != nil || now != old {
			return fmt.Errorf("%s: the store is not what it was: %v\n%s", victim, err, now)
		}
		fmt.Printf("%s: put back\n", filepath.Base(victim))
	}
	return nil
}

// crossMain mounts something over the copies in mid-swap. The swap works through
// handles, which the mount does not change; what cannot be done is to remove the
// copies, and nothing that was mounted there is removed with them.
func crossMain([]byte) error {
	dir, err := forktest.Room()
	if err != nil {
		return err
	}
	s, err := makeScene(filepath.Join(dir, "base"))
	if err != nil {
		return err
	}
	ends := []func(context.Context, ResumeOptions) (Result, error){Abort, Resume}
	for i := range 6 {
		end := ends[i%2]
		var over string
		err := s.mountInSwap(func(j *Journal) error {
			t := j.Sets[i/2]
			over = filepath.Join(t.Work, "new")
			if i%2 == 0 {
				over = filepath.Join(t.Work, "old")
			}
			return forktest.BindOver(over)
		})
		if err == nil || !strings.Contains(err.Error(), over+" is a mount point") ||
			!strings.Contains(err.Error(), "--resume") {
			return fmt.Errorf("%s: got %v", over, err)
		}
		r, err := s.request()
		if err != nil {
			return err
		}
		if _, err := end(context.Background(), resumeOptions(r.Store)); err == nil ||
			!exists(journalPath(s.backups())) {
			return fmt.Errorf("%s: while it is mounted: %v", over, err)
		}
		if err := unix.Unmount(over, 0); err != nil {
			return err
		}
		if _, err := end(context.Background(), resumeOptions(r.Store)); err != nil {
			return fmt.Errorf("%s: after it was unmounted: %w", over, err)
		}
		now, err := s.print()
		if err != nil || !strings.Contains(now, "only-new.bin") || strings.Contains(now, workPrefix) ||
			exists(journalPath(s.backups())) {
			return fmt.Errorf("%s: the store is not the restored one: %v\n%s", over, err, now)
		}
		fmt.Printf("%s: restored\n", over)
	}
	return nil
}

func siblingsMain([]byte) error {
	dir, err := forktest.Room()
	if err != nil {
		return err
	}
	s, err := makeScene(filepath.Join(dir, "base"))
	if err != nil {
		return err
	}
	live := s.live()
	before := map[string]*Identity{}
	for _, path := range []string{
		filepath.Dir(live.DB),
		filepath.Dir(live.Registry),
		live.Registry,
		live.Chroma,
		s.backups(),
	} {
		if err := forktest.BindOver(path); err != nil {
			return err
		}
		if before[path], err = inodeOf(path); err != nil {
			return err
		}
	}
	if err := os.Rename(live.DB, filepath.Join(live.Chroma, "x")); !errors.Is(err, unix.EXDEV) {
		return fmt.Errorf("these are no mounts of their own: %v", err)
	}
	r, err := s.request()
	if err != nil {
		return err
	}
	res, err := Run(context.Background(), r)
	if err != nil || !res.DBRestored || !res.RegistryRestored || !res.ChromaRestored {
		return fmt.Errorf("%+v, %w", res, err)
	}
	for path, was := range before {
		if now, err := inodeOf(path); err != nil || !now.sameInode(was) {
			return fmt.Errorf("%s is another one: %v", path, err)
		}
	}
	data, err := os.ReadFile(live.Registry)
	if err != nil || string(data) != `{"projects":["new"]}` || exists(live.DB+"-wal") ||
		exists(filepath.Join(live.Chroma, "only-old.bin")) {
		return fmt.Errorf("it is not the new store: %s, %v", data, err)
	}
	return nil
}

func nestedMain([]byte) error {
	dir, err := forktest.Room()
	if err != nil {
		return err
	}
	s, err := makeScene(filepath.Join(dir, "base with a space"))
	if err != nil {
		return err
	}
	deep := filepath.Join(s.live().Chroma, "seg/deeper")
	if err := os.Mkdir(deep, 0o750); err != nil {
		return err
	}
	before, err := printOf(s.base)
	if err != nil {
		return err
	}
	for path, allowed := range map[string]func(*Request){
		deep: func(r *Request) { r.NoChroma = true },
		filepath.Join(s.live().Chroma, "both.bin"): func(r *Request) { r.NoChroma = true },
		s.live().DB + "-wal":                       nil,
	} {
		if err := forktest.BindOver(path); err != nil {
			return err
		}
		r, err := s.request()
		if err != nil {
			return err
		}
		_, err = Run(context.Background(), r)
		if failure.KindOf(err) != failure.Refused || !strings.Contains(err.Error(), path+" is a mount point") ||
			!strings.Contains(err.Error(), "unmount it first") {
			return fmt.Errorf("%s: got %v", path, err)
		}
		fmt.Println(err)
		if after, err := printOf(s.base); err != nil || after != before {
			return fmt.Errorf("%s: something was touched: %v\n%s", path, err, after)
		}
		if allowed != nil {
			allowed(&r)
			if plan, err := NewPlan(context.Background(), r); err != nil || plan.Err() != nil {
				return fmt.Errorf("%s: allowed: %w, %v", path, err, plan.Err())
			}
		}
		if err := unix.Unmount(path, 0); err != nil {
			return err
		}
	}
	// What the restore leaves alone may be a mount point.
	kept := filepath.Join(s.live().Chroma, "lost+found")
	if err := errors.Join(os.Mkdir(kept, 0o700), forktest.BindOver(kept)); err != nil {
		return err
	}
	r, err := s.request()
	if err != nil {
		return err
	}
	if _, err := Run(context.Background(), r); err != nil {
		return err
	}
	if _, err := os.Stat(deep); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("with nothing mounted there it was not exchanged: %v", err)
	}
	return nil
}
