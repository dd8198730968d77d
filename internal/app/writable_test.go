package app

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/health"
)

// Whether a file can be written is judged for the user who keeps it: root may write
// everything, and somebody who only looks may write nothing, and neither says anything.
func TestRefusesWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	me := os.Geteuid()
	for _, test := range []struct {
		mode fs.FileMode
		user int
		want error
	}{
		{0o600, me, nil},
		{0o600, 0, nil},
		{0o600, me + 1, unix.EACCES},
		{0o644, me + 1, unix.EACCES},
		{0o620, me + 1, nil}, // he may be in its group
		{0o602, me + 1, nil},
	} {
		if err := os.Chmod(path, test.mode); err != nil {
			t.Fatal(err)
		}
		if err := refusesWrites(path, test.user); !errors.Is(err, test.want) {
			t.Errorf("%o for %d beside %d: %v, want %v", test.mode, test.user, me, err, test.want)
		}
	}
	if err := refusesWrites(path+".none", me+1); err != nil {
		t.Errorf("a file that is not there yet: %v", err)
	}
	if err := checkWritable(filepath.Join(filepath.Dir(path), "none", "history.db")); err != nil {
		t.Errorf("a directory that is not there yet: %v", err)
	}
}

func TestModeAllows(t *testing.T) {
	for _, test := range []struct {
		mode        uint16
		owner, user int
		want        bool
	}{
		{0o400, 7, 7, false},
		{0o600, 7, 7, true},
		{0o466, 7, 7, false}, // the owner's own bits count
		{0o400, 7, 0, true},
		{0o600, 0, 7, false},
		{0o660, 0, 7, true},
	} {
		if got := modeAllows(test.mode, test.owner, test.user); got != test.want {
			t.Errorf("%o of %d for %d: %t", test.mode, test.owner, test.user, got)
		}
	}
}

// The command that helps is the cause's.
func TestHintToWrite(t *testing.T) {
	for _, test := range []struct {
		at   string
		err  error
		want string
	}{
		{"/s/history.db", unix.EPERM, "chattr -ia /s/history.db"},
		{"/s/history.db", unix.EROFS, "findmnt -T /s/history.db"},
		{"/s/history.db", unix.EACCES, "chown --reference=/s /s/history.db"},
		{"/s", unix.EACCES, ""},
		{"/s", unix.ENOSPC, ""},
	} {
		got := hintToWrite("/s/history.db", &fs.PathError{Op: "write", Path: test.at, Err: test.err})
		if !strings.Contains(got, test.want) || test.want == "" && got != "" {
			t.Errorf("%v at %s: %q", test.err, test.at, got)
		}
	}
}

// A history that is emptied is as lost as one that is removed, and a command that only
// looks says so before anything is written.
func TestEmptiedHistoryIsToldAtOnce(t *testing.T) {
	var told []health.Condition
	for _, spoil := range []func(path string) error{
		os.Remove, func(path string) error { return os.Truncate(path, 0) },
	} {
		h := newHouse(t, "")
		a := h.open()
		h.backup(a)
		cfg := a.Config
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if err := spoil(h.path("state/history.db")); err != nil {
			t.Fatal(err)
		}
		look, err := Open(t.Context(), cfg, Options{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		defer look.Close()
		for _, c := range look.Report(t.Context(), time.Now()).Conditions {
			if c.Name == health.ConditionHistory {
				told = append(told, c)
			}
		}
		if info, err := os.Stat(h.path("state/history.db")); err == nil && info.Size() > 0 {
			t.Error("a look wrote the history")
		}
	}
	if len(told) != 2 || told[0].Level != health.LevelCritical || told[0].Message != told[1].Message ||
		told[0].Hint != told[1].Hint {
		t.Errorf("%+v", told)
	}
}
