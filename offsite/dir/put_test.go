package dir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// The bytes are on the disk before the name is, and both directories after it.
func TestPutIsDurable(t *testing.T) {
	root := t.TempDir()
	r := open(t, root)
	put := func(name string) {
		t.Helper()
		if _, err := r.Put(t.Context(), name, strings.NewReader("data")); err != nil {
			t.Fatal(err)
		}
	}
	put("packs/first") // which makes the directories
	var ops []string
	stop := fsx.Observe(func(op fsx.Op, path string) error {
		name := strings.TrimPrefix(path, root+"/")
		if strings.HasPrefix(name, "incoming/") {
			name = "incoming/temporary"
		}
		ops = append(ops, fmt.Sprintf("%s %s", op, name))
		return nil
	})
	defer stop()
	put("packs/second")
	want := []string{"create incoming/temporary", "fsync incoming/temporary", "rename packs/second", "fsync-dir packs",
		"fsync-dir incoming"}
	if !slices.Equal(ops, want) {
		t.Errorf("it did %q, not %q", ops, want)
	}
}

// Whatever fails, that is what Put says, and it leaves no partial.
func TestPutFails(t *testing.T) {
	root := t.TempDir()
	r := open(t, root)
	if _, err := r.Put(t.Context(), "packs/first", strings.NewReader("data")); err != nil {
		t.Fatal(err)
	}
	n := 0
	fsxtest.EachFailure(t, func() error {
		n++
		_, err := r.Put(t.Context(), fmt.Sprintf("packs/%d", n), strings.NewReader("data"))
		return err
	}, func(_ int, at string, err error) {
		left, _ := os.ReadDir(filepath.Join(root, "incoming"))
		if !errors.Is(err, fsxtest.ErrInjected) || errors.Is(err, fs.ErrNotExist) || len(left) > 0 {
			t.Errorf("%s: %v; left: %v", at, err, left)
		}
	})
}

// A partial that cannot be removed is told beside the reason why it is one.
func TestPutSaysWhatItLeaves(t *testing.T) {
	r := open(t, t.TempDir())
	full, stuck := errors.New("full"), errors.New("stuck")
	stop := fsx.Observe(func(op fsx.Op, _ string) error {
		return map[fsx.Op]error{fsx.OpSync: full, fsx.OpRemove: stuck}[op]
	})
	defer stop()
	_, err := r.Put(t.Context(), "packs/one", strings.NewReader("data"))
	if !errors.Is(err, full) || !errors.Is(err, stuck) {
		t.Error(err)
	}
}

// A name under which another file is found than the one that was written is none
// that was put.
func TestPutFindsAnotherFile(t *testing.T) {
	root := t.TempDir()
	r := open(t, root, func(oldDir *tree.Dir, oldName string, newDir *tree.Dir, newName string) error {
		if err := renameNoReplace(oldDir, oldName, newDir, newName); err != nil {
			return err
		}
		path := filepath.Join(root, "packs", newName)
		if err := os.Rename(path, path+".aside"); err != nil {
			return err
		}
		return os.WriteFile(path, []byte("another's"), 0o600)
	})
	if _, err := r.Put(t.Context(), "packs/one", strings.NewReader("data")); err == nil {
		t.Error("somebody else's file counts as stored")
	}
}

func TestLockedRenameIntoAClosedDirectory(t *testing.T) {
	d, err := tree.Open(t.TempDir(), tree.Trusted(""))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := lockedRename(d, "a", d, "b"); err == nil {
		t.Error("it went on without a lock")
	}
}
