package chroma

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// service is a pretended one: its commands write their names to a log.
type service struct{ log string }

func newService(t *testing.T) service { return service{filepath.Join(t.TempDir(), "log")} }

func (s service) freeze() Freeze {
	say := func(word string) []string { return []string{"sh", "-c", `echo "$1" >>"$2"`, "sh", word, s.log} }
	return Freeze{Command: say("freeze"), Thaw: say("thaw"), Marker: s.log + ".frozen"}
}

// said returns what was done to the service.
func (s service) said(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(s.log)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(data)), " ")
}

func (s service) wantMarker(t *testing.T, want bool) {
	t.Helper()
	if ok, err := present(dirAt(filepath.Dir(s.log)), filepath.Base(s.log)+".frozen"); err != nil || ok != want {
		t.Errorf("the marker is there: %v, %v; want %v", ok, err, want)
	}
}

func TestFreezeThawsBeforeItJudges(t *testing.T) {
	src, s := unpack(t, "whole"), newService(t)
	stop := fsx.Observe(func(op fsx.Op, path string) error {
		switch {
		case op == fsx.OpCopy:
			s.wantMarker(t, true)
			if said := s.said(t); said != "freeze" {
				t.Errorf("at the copy of %s: %q", path, said)
			}
		case op == fsx.OpSync && filepath.Base(path) == level0Name:
			if said := s.said(t); said != "freeze thaw" {
				t.Errorf("at the fsync of %s: %q", path, said)
			}
		}
		return nil
	})
	defer stop()
	c, err := CopyFrozen(t.Context(), dirAt(src), filepath.Join(t.TempDir(), "copy"), s.freeze(), Options{})
	if err != nil || c.Method != "freeze" || c.Consistency != Consistent || c.Locked <= 0 {
		t.Errorf("copied %+v, %v", c, err)
	}
	s.wantMarker(t, false)
}

// A service that was frozen in the middle of a persist is thawed and frozen again.
func TestFreezeMeetsAPersist(t *testing.T) {
	src, s := unpack(t, "whole"), newService(t)
	segment, f := segmentOf(t, src), s.freeze()
	first := filepath.Join(t.TempDir(), "first")
	f.Command = []string{
		"sh",
		"-c",
		`echo freeze >>"$1"; [ -e "$2" ] || { touch "$3"; touch "$2"; }`,
		"sh",
		s.log,
		first,
		filepath.Join(segment, headerName),
	}
	f.Thaw = []string{"sh", "-c", `echo thaw >>"$1"; touch "$2"`, "sh", s.log, filepath.Join(segment, pickleName)}
	c, err := CopyFrozen(t.Context(), dirAt(src), filepath.Join(t.TempDir(), "copy"), f, Options{})
	if err != nil || c.Consistency != Consistent {
		t.Errorf("copied %+v, %v", c, err)
	}
	if said := s.said(t); said != "freeze thaw freeze thaw" {
		t.Errorf("it did %q", said)
	}
}

// Whatever fails, the service runs again, and what was copied is gone.
func TestFreezeThawsWhateverFails(t *testing.T) {
	src, into, s := unpack(t, "whole"), t.TempDir(), newService(t)
	fsxtest.EachFailure(t, func() error {
		_, err := CopyFrozen(t.Context(), dirAt(src), filepath.Join(into, "copy"), s.freeze(), Options{})
		return err
	}, func(k int, at string, err error) {
		if err == nil {
			t.Fatalf("failure %d (%s) gave no error", k, at)
		}
		said := s.said(t)
		if strings.Count(said, "freeze") != strings.Count(said, "thaw") || strings.HasSuffix(said, "freeze") {
			t.Fatalf("failure %d (%s): it did %q", k, at, said)
		}
		if left := fsxtest.Tree(t, into); left != ".\n" {
			t.Fatalf("failure %d (%s) left\n%s", k, at, left)
		}
		_ = os.Remove(s.log + ".frozen") // stands when only its removal failed
		_ = os.Remove(s.log)
	})
}

func TestFreezeCommandFails(t *testing.T) {
	src, into, s := unpack(t, "whole"), t.TempDir(), newService(t)
	f := s.freeze()
	f.Command = []string{"sh", "-c", "echo no such container >&2; exit 3"}
	_, err := CopyFrozen(t.Context(), dirAt(src), filepath.Join(into, "copy"), f, Options{})
	if err == nil || !strings.Contains(err.Error(), "freeze_command") ||
		!strings.Contains(err.Error(), "exit status 3: no such container") {
		t.Errorf("error %v", err)
	}
	if said := s.said(t); said != "thaw" {
		t.Errorf("it did %q", said)
	}
	s.wantMarker(t, false)
}

// Past its deadline the service is thawed although the copy hangs, and the copy
// counts for nothing.
func TestFreezeDeadlineThawsByItself(t *testing.T) {
	src, into, s := unpack(t, "whole"), t.TempDir(), newService(t)
	f := s.freeze()
	f.Deadline = 2 * time.Second // in which a busy machine starts the command
	stop := fsx.Observe(func(op fsx.Op, path string) error {
		if op != fsx.OpCopy {
			return nil
		}
		for end := time.Now().Add(10 * time.Second); !strings.HasSuffix(s.said(t), "thaw") && time.Now().Before(end); {
			time.Sleep(time.Millisecond) // a disk that does not answer
		}
		return nil
	})
	defer stop()
	_, err := CopyFrozen(t.Context(), dirAt(src), filepath.Join(into, "copy"), f, Options{})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "raise backup.freeze_deadline") {
		t.Errorf("error %v", err)
	}
	if said := s.said(t); said != "freeze thaw" {
		t.Errorf("it did %q", said)
	}
	if left := fsxtest.Tree(t, into); left != ".\n" {
		t.Errorf("it left\n%s", left)
	}
}

// A freeze command that never returns is killed with all that it started.
func TestFreezeCommandHangs(t *testing.T) {
	src, s := unpack(t, "whole"), newService(t)
	f := s.freeze()
	f.Command = []string{"sh", "-c", "sleep 1000 & wait"}
	f.Deadline = 100 * time.Millisecond
	_, err := CopyFrozen(t.Context(), dirAt(src), filepath.Join(t.TempDir(), "copy"), f, Options{})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if said := s.said(t); said != "thaw" {
		t.Errorf("it did %q", said)
	}
}

// A thaw that fails is tried again; when it never succeeds, the marker stands.
func TestThawIsTriedAgain(t *testing.T) {
	src, s := unpack(t, "whole"), newService(t)
	f := s.freeze()
	f.Thaw = []string{"sh", "-c", `echo thaw >>"$1"; [ $(grep -c thaw "$1") -ge 2 ]`, "sh", s.log}
	if _, err := CopyFrozen(t.Context(), dirAt(src), filepath.Join(t.TempDir(), "copy"), f, Options{}); err != nil {
		t.Error(err)
	}
	if said := s.said(t); said != "freeze thaw thaw" {
		t.Errorf("it did %q", said)
	}
	s.wantMarker(t, false)
	err := thaw([]string{"sh", "-c", "echo cannot; exit 1"}, s.log+".frozen", 2)
	if err == nil || !strings.Contains(err.Error(), "may still be frozen") || !strings.Contains(err.Error(), "cannot") {
		t.Errorf("error %v", err)
	}
}

// A process that is killed while the service is frozen leaves the marker, and
// the next start thaws by it.
func TestThawLeftover(t *testing.T) {
	src, s := unpack(t, "whole"), newService(t)
	cmd := helper("freeze", src, filepath.Join(t.TempDir(), "copy"), s.log)
	cmd.Env = append(cmd.Env, fsxtest.KillEnv(12))
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Fatalf("it was not killed: %s", out)
	}
	if said := s.said(t); said != "freeze" {
		t.Fatalf("it did %q: it was killed at the wrong moment", said)
	}
	s.wantMarker(t, true)
	owners := tree.Trusted("")
	ThawLeftover := func(path string) (bool, error) { return ThawLeftover(path, s.freeze().Thaw, owners) }
	if thawed, err := ThawLeftover(s.log + ".frozen"); !thawed || err != nil {
		t.Errorf("thawed: %v, %v", thawed, err)
	}
	if said := s.said(t); said != "freeze thaw" {
		t.Errorf("it did %q", said)
	}
	s.wantMarker(t, false)
	if thawed, err := ThawLeftover(s.log + ".frozen"); thawed || err != nil {
		t.Errorf("again: %v, %v", thawed, err)
	}
	if err := os.WriteFile(s.log+".frozen", []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ThawLeftover(s.log + ".frozen"); err == nil || !strings.Contains(err.Error(), "may still be frozen") {
		t.Errorf("of a torn marker: %v", err)
	}
}

// A marker says that something is frozen, and never what is run: who can write
// it would else have root run his command.
func TestThawLeftoverRunsTheConfiguredCommandOnly(t *testing.T) {
	s := newService(t)
	path, ran := s.log+".frozen", s.log+".ran"
	write := func(text string, uid int) {
		t.Helper()
		_ = os.Remove(path)
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Lchown(path, uid, 0)); err != nil {
			t.Fatal(err)
		}
	}
	forged := fmt.Sprintf(`{"thaw": ["touch", %q], "since": "2026-04-07T06:00:00Z", "pid": 1}`, ran)
	for _, c := range []struct {
		name string
		make func()
		say  string // what the service was told
		err  string
	}{
		{"forged", func() { write(forged, 0) }, "thaw", ""},
		{"another user's", func() { write(forged, 61234) }, "", "belongs to uid 61234"},
		{"a link", func() {
			write(forged, 0)
			_ = errors.Join(os.Rename(path, path+".x"), os.Symlink(path+".x", path), os.Lchown(path, 61234, 0))
		}, "", "symbolic link"},
		{"a FIFO", func() { _ = errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)) }, "", "not a regular file"},
		{"a huge one", func() { write("{", 0); _ = os.Truncate(path, 6<<30) }, "", "larger"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_ = os.Remove(s.log)
			c.make()
			thawed, err := ThawLeftover(path, s.freeze().Thaw, tree.Trusted(""))
			if thawed != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("thawed %v, %v", thawed, err)
			}
			if said := s.said(t); said != c.say {
				t.Errorf("the service was told %q", said)
			}
			if _, err := os.Lstat(ran); err == nil {
				t.Error("the marker's command was run")
			}
		})
	}
	write("{}", 0)
	if thawed, err := ThawLeftover(path, nil, tree.Trusted("")); thawed || err == nil {
		t.Errorf("without a command: %v, %v", thawed, err)
	}
}

func TestFreezeNeedsBothCommands(t *testing.T) {
	_, err := CopyFrozen(
		t.Context(),
		dirAt(unpack(t, "whole")),
		filepath.Join(t.TempDir(), "copy"),
		Freeze{Command: []string{"true"}},
		Options{},
	)
	if failure.KindOf(err) != failure.Config {
		t.Errorf("error %v", err)
	}
}
