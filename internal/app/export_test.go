package app

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
	"github.com/atocore/atobackupd/snapshot"
)

// exporting is a house with one snapshot.
func exporting(t *testing.T) (h *house, a *App, out string) {
	t.Helper()
	h = newHouse(t, "")
	a = h.open()
	t.Cleanup(func() { a.Close() })
	if _, err := a.Backup(context.Background(), snapshot.Manual, false, time.Time{}); err != nil {
		t.Fatal(err)
	}
	out = h.path("out")
	if err := os.Mkdir(out, 0o755); err != nil {
		t.Fatal(err)
	}
	return h, a, out
}

// Whatever call fails, the file that was there stays as it was, and nothing else
// is left beside it. Only the fsync of the directory comes after the rename.
func TestExportFailsCleanly(t *testing.T) {
	h, a, out := exporting(t)
	to := filepath.Join(out, "a.tar.zst.age")
	for _, force := range []bool{false, true} {
		fsxtest.EachFailure(t, func() error {
			if err := os.RemoveAll(to); err != nil {
				return err
			}
			if force {
				if err := os.WriteFile(to, []byte("old"), 0o600); err != nil {
					return err
				}
			}
			_, err := a.Export(context.Background(), ExportRequest{Name: "latest", To: to, Force: force})
			return err
		}, func(k int, at string, err error) {
			unlocked := err == nil && strings.Contains(at, h.path("state")) // who may not lock reads all the same
			if !errors.Is(err, fsxtest.ErrInjected) && !unlocked {
				t.Errorf("%d, %s: %v", k, at, err)
			}
			if tree := fsxtest.Tree(t, out); tree != ".\n" && tree != ".\na.tar.zst.age\n" {
				t.Errorf("%d, %s: left %s", k, at, tree)
			}
			switch data, readErr := os.ReadFile(to); {
			case readErr != nil && !force && errors.Is(readErr, os.ErrNotExist):
			case readErr == nil && force && string(data) == "old":
			case readErr == nil && crypt.IsHeader(data) && len(data) > 1000: // renamed, only not durably
			default:
				t.Errorf("%d, %s: %q, %v", k, at, data, readErr)
			}
		})
	}
}

// A cancelled export leaves nothing, and is an interruption.
func TestExportInterrupted(t *testing.T) {
	_, a, out := exporting(t)
	ctx, cancel := context.WithCancel(context.Background())
	a.Options.Progress = func(string, int64, int64) { cancel() }
	_, err := a.Export(ctx, ExportRequest{Name: "latest", To: filepath.Join(out, "a")})
	if failure.KindOf(err) != failure.Interrupted {
		t.Errorf("%v", err)
	}
	if tree := fsxtest.Tree(t, out); tree != ".\n" {
		t.Errorf("left %s", tree)
	}
}

// fullDisk is a writer on which there is no room after some bytes.
type fullDisk struct{ room int }

var errFull = errors.New("no room")

func (w *fullDisk) Write(p []byte) (int, error) {
	if w.room -= len(p); w.room < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// A reader that goes away is an error at every length, never a short archive
// that is taken for whole.
func TestExportToABrokenPipe(t *testing.T) {
	_, a, _ := exporting(t)
	var whole bytes.Buffer
	if _, err := a.Export(context.Background(), ExportRequest{Name: "latest", Out: &whole}); err != nil {
		t.Fatal(err)
	}
	for room := 0; room < whole.Len()-100; room += whole.Len() / 7 {
		if _, err := a.Export(context.Background(),
			ExportRequest{Name: "latest", Out: &fullDisk{room}}); !errors.Is(err, errFull) {
			t.Errorf("room for %d of %d bytes: %v", room, whole.Len(), err)
		}
	}
}

// A snapshot that was found invalid goes out only when it is asked for.
func TestExportOfAnInvalidOne(t *testing.T) {
	h, a, out := exporting(t)
	list, _, err := a.Snapshots(context.Background(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	stamp := list[0].Stamp
	h.write("backups/snapshots/"+string(stamp)+"/stranger", "what no manifest names")
	if result, err := a.Validate(context.Background(), stamp); err != nil || result.Valid {
		t.Fatalf("%+v, %v", result, err)
	}
	request := ExportRequest{Name: string(stamp), To: filepath.Join(out, "a")}
	if _, err := a.Export(context.Background(), request); failure.KindOf(err) != failure.Invalid {
		t.Errorf("%v", err)
	}
	request.AllowInvalid = true
	if _, err := a.Export(context.Background(), request); err != nil {
		t.Errorf("%v", err)
	}
}
