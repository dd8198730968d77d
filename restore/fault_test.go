package restore

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
	"github.com/atocore/atobackupd/snapshot"
)

// TestEachFailure fails every file-changing call in turn: the live store is
// afterwards the old one or the new one, and what the error says is true.
func TestEachFailure(t *testing.T) {
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
		j, pendingErr := PendingJournal(s.backups())
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
			if _, err := end(context.Background(), Continue{Store: store}); err != nil {
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

func copyTree(from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// TestBusyAndCrossDevice lets a destination become a mount point between the
// plan and the swap: a real EBUSY, and for the file that should come a real
// EXDEV.
func TestBusyAndCrossDevice(t *testing.T) {
	t.Parallel()
	runInNamespace(t, "busy")
}

// TestNoSpaceAnywhere restores onto a file system that is full after one page,
// after two, and so on until there is room.
func TestNoSpaceAnywhere(t *testing.T) {
	t.Parallel()
	runInNamespace(t, "space")
}

func runInNamespace(t *testing.T, role string) {
	t.Helper()
	c := again(role, nil, "TMPDIR="+t.TempDir())
	inNamespace(c)
	var errs strings.Builder
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v: %s%s (this test mounts in a namespace of its own: it needs root, or unprivileged user namespaces)", err, out, errs.String())
	}
	t.Logf("%s", out)
}

// room mounts a file system in memory that ends with the process.
func room() (string, error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "restore-room-")
	if err != nil {
		return "", err
	}
	return dir, unix.Mount("tmpfs", dir, "tmpfs", 0, "")
}

func busyMain([]byte) error {
	dir, err := room()
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
	for _, victim := range []string{s.live().Registry, s.live().DB, filepath.Join(s.live().Chroma, "seg"), filepath.Join(s.live().Chroma, "both.bin")} {
		mounted := false
		stop := fsx.Observe(func(op fsx.Op, path string) error {
			if j, err := PendingJournal(s.backups()); mounted || err != nil || j == nil || j.Phase != PhaseSwapping {
				return nil
			}
			mounted = true
			return unix.Mount(victim, victim, "", unix.MS_BIND, "")
		})
		r, err := s.request()
		if err != nil {
			return err
		}
		r.NoPreSnapshot = true
		_, err = Run(context.Background(), r)
		stop()
		if !mounted {
			return fmt.Errorf("%s was never mounted", victim)
		}
		if err == nil || !strings.Contains(err.Error(), "busy") || !strings.Contains(err.Error(), "everything was put back") {
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

func spaceMain([]byte) error {
	dir, err := room()
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
		if failure.KindOf(err) != failure.NoSpace || now != old || exists(filepath.Join(s.backups(), JournalFile)) {
			return fmt.Errorf("%d pages: %v: the store is\n%s", pages, err, now)
		}
		if err := unix.Unmount(live, 0); err != nil {
			return err
		}
	}
	return fmt.Errorf("it never fitted")
}
