package chroma

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
)

// A raw copy keeps a journal as it was found: rolled back in the copy, nobody
// could look into it any more.
func TestCopyRawKeepsAJournal(t *testing.T) {
	src, dst := unpack(t, "whole"), filepath.Join(t.TempDir(), "copy")
	waiting := helperWaiting(t, "crash", databaseIn(src))
	waiting.Kill()
	before := fsxtest.State(t, src)
	c, err := CopyRaw(t.Context(), dirAt(src), dst, Options{})
	if err != nil || c.Method != "raw" || c.Consistency != Unverified || len(c.Report.Errors) == 0 {
		t.Fatalf("copied %+v, %v", c, err)
	}
	if fsxtest.State(t, src) != before {
		t.Error("the source was changed")
	}
	for _, name := range []string{databaseName, databaseName + "-journal"} {
		want, _ := os.ReadFile(filepath.Join(src, name))
		got, err := os.ReadFile(filepath.Join(dst, name))
		if err != nil || !slices.Equal(got, want) || len(got) == 0 {
			t.Errorf("%s: %d bytes, want %d: %v", name, len(got), len(want), err)
		}
	}
}

// What cannot be saved is named, and the rest is saved.
func TestCopyRawLeavesOut(t *testing.T) {
	src, dst := unpack(t, "broken"), filepath.Join(t.TempDir(), "copy")
	if err := syscall.Mkfifo(filepath.Join(src, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(src, "outside")); err != nil {
		t.Fatal(err)
	}
	c, err := CopyRaw(t.Context(), dirAt(src), dst, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, w := range c.Warnings {
		if w.Code == CodeLeftOut {
			left = append(left, w.Text)
		}
	}
	if want := []string{
		"fifo could not be saved: it is a FIFO",
		"outside could not be saved: it is a link to /etc/passwd, outside the directory",
	}; !slices.Equal(
		left,
		want,
	) {
		t.Errorf("left out: %q", left)
	}
	if err := os.Remove(filepath.Join(src, "fifo")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(src, "outside")); err != nil {
		t.Fatal(err)
	}
	// Nothing else differs, the directory that was written to apart.
	if err := os.Chtimes(src, c.Entries[0].MTime, c.Entries[0].MTime); err != nil {
		t.Fatal(err)
	}
	sameTree(t, src, dst)
	data, errA := os.ReadFile(databaseIn(src))
	got, errB := os.ReadFile(databaseIn(dst))
	if errA != nil || errB != nil || !slices.Equal(data, got) {
		t.Errorf("the database differs: %v, %v", errA, errB)
	}
}

func TestCopyRawFailsWhole(t *testing.T) {
	src, into := unpack(t, "whole"), t.TempDir()
	furnish(t, src)
	fsxtest.EachFailure(t, func() error {
		_, err := CopyRaw(t.Context(), dirAt(src), filepath.Join(into, "copy"), Options{})
		return err
	}, func(k int, at string, err error) {
		if err == nil || failure.KindOf(err) == failure.Invalid {
			t.Fatalf("failure %d (%s): %v", k, at, err)
		}
		if left := fsxtest.Tree(t, into); left != ".\n" {
			t.Fatalf("failure %d (%s) left\n%s", k, at, left)
		}
	})
}
