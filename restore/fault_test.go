package restore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/forktest"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
	"github.com/atocore/atobackupd/snapshot"
)

// TestEachFailure fails every file-changing call in turn: the live store is
// afterwards the old one or the new one, and what the error says is true.
func TestEachFailure(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newScene(t)
	template := s.base + ".template"
	t.Cleanup(func() { os.RemoveAll(template) })
	mustCopy(t, s.base, template)
	old := s.mustPrint(t)
	body := func() error {
		mustCopy(t, template, s.base)
		r := s.mustRequest(t)
		r.NoPreSnapshot = true
		_, err := Run(context.Background(), r)
		return err
	}
	if err := body(); err != nil {
		t.Fatal(err)
	}
	restored := s.mustPrint(t)
	ended := map[string]int{}
	fsxtest.EachFailure(t, body, func(k int, at string, err error) {
		if err == nil {
			t.Errorf("call %d (%s) failed and nobody noticed", k, at)
		}
		store, openErr := snapshot.OpenExisting(s.backups())
		if openErr != nil {
			t.Fatal(openErr)
		}
		j, pendingErr := pendingIn(s.backups())
		if pendingErr != nil {
			t.Fatal(pendingErr)
		}
		if j != nil {
			ended["journal stands"]++
			if !strings.Contains(err.Error(), "--resume") {
				t.Errorf("call %d (%s): the journal stands and nobody says so: %v", k, at, err)
			}
			end, want := Abort, old
			if j.Phase == PhaseCommitted {
				end, want = Resume, restored
			}
			if _, err := end(context.Background(), resumeOptions(store)); err != nil {
				t.Errorf("call %d (%s): %v", k, at, err)
			}
			if s.mustPrint(t) != want {
				t.Errorf("call %d (%s): not what the journal promised", k, at)
			}
		}
		switch p := s.mustPrint(t); p {
		case old:
			ended["old"]++
		case restored:
			ended["new"]++
		default:
			t.Errorf("call %d (%s): %v: neither old nor new:\n%s", k, at, err, p)
		}
		assertNoTraces(t, s)
	})
	t.Log(ended)
	if ended["old"] < 40 || ended["new"] == 0 {
		t.Errorf("too little was tested: %v", ended)
	}
}

// mustCopy replaces to by a copy of from.
func mustCopy(t testing.TB, from, to string) {
	t.Helper()
	if err := copyTree(from, to); err != nil {
		t.Fatal(err)
	}
}

// copyTree does what cp -a does to files and directories. The tests do it
// thousands of times, and starting cp takes longer than the copy.
func copyTree(from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return copyInto(from, to)
}

func copyInto(from, to string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	switch {
	case info.IsDir():
		entries, err := os.ReadDir(from)
		if err == nil {
			err = os.Mkdir(to, 0o700)
		}
		for _, e := range entries {
			err = errors.Join(err, copyInto(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())))
		}
		if err != nil {
			return err
		}
	case info.Mode().IsRegular():
		data, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, data, 0o600)
		}
		if err != nil {
			return err
		}
	default:
		return fmt.Errorf("%s is neither a file nor a directory", from)
	}
	owner := info.Sys().(*syscall.Stat_t)
	return errors.Join(
		os.Lchown(to, int(owner.Uid), int(owner.Gid)),
		os.Chmod(to, info.Mode()),
		os.Chtimes(to, info.ModTime(), info.ModTime()),
	)
}

// TestNoSpaceAnywhere restores onto a file system that is full after one page,
// after two, and so on until there is room.
func TestNoSpaceAnywhere(t *testing.T) { runInNamespace(t, "space") }

func spaceMain([]byte) error {
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
	live, saved := filepath.Join(s.base, "live"), filepath.Join(s.base, "saved")
	if err := os.Rename(live, saved); err != nil {
		return err
	}
	if err := os.Mkdir(live, 0o755); err != nil {
		return err
	}
	full := 0
	for pages := 1; pages < 400; pages++ {
		if err := unix.Mount("tmpfs", live, "tmpfs", 0, fmt.Sprintf("size=%d,mode=755", pages*4096)); err != nil {
			return err
		}
		if out, err := exec.Command("cp", "-a", saved+"/.", live).CombinedOutput(); err != nil {
			if strings.Contains(string(out), "No space") {
				if err := unix.Unmount(live, 0); err != nil {
					return err
				}
				continue // not even the old store fits
			}
			return fmt.Errorf("%w: %s", err, out)
		}
		r, err := s.request()
		if err != nil {
			return err
		}
		r.NoPreSnapshot = true
		if _, err := Run(context.Background(), r); failure.KindOf(err) != failure.Refused {
			return fmt.Errorf("%d pages: it is not refused beforehand: %v", pages, err)
		}
		r.Force = true // no estimate: run into it
		_, err = Run(context.Background(), r)
		now, printErr := s.print()
		if printErr != nil {
			return printErr
		}
		if err == nil {
			data, _ := json.Marshal(map[string]int{"pages": pages, "times full": full})
			fmt.Printf("%s\n", data)
			if full < 5 {
				return fmt.Errorf("it was full only %d times", full)
			}
			return nil
		}
		full++
		if failure.KindOf(err) != failure.NoSpace || now != old || exists(journalPath(s.backups())) {
			return fmt.Errorf("%d pages: %v: the store is\n%s", pages, err, now)
		}
		if err := unix.Unmount(live, 0); err != nil {
			return err
		}
	}
	return fmt.Errorf("it never fitted")
}
