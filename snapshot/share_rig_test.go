//go:build rig

package snapshot

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/snapshot/chroma"
	"golang.org/x/sys/unix"
)

// These tests need root, and the file system scripts in the shared folder that
// ATOBACKUPD_SHARED names.

// runner is a test or a benchmark that has others inside.
type runner[T any] interface {
	testing.TB
	Run(name string, f func(T)) bool
}

// onEachFS runs a test with its files on a fresh file system of each type. The
// second directory lies on another file system.
func onEachFS[T runner[T]](t T, size string, test func(t T, mount, elsewhere string)) {
	shared := os.Getenv("ATOBACKUPD_SHARED")
	if shared == "" {
		shared = "../../shared"
	}
	shared, err := filepath.Abs(shared)
	must(t, err)
	for _, kind := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(kind, func(t T) {
			elsewhere := t.TempDir()
			mount := filepath.Join(elsewhere, "mount")
			script(t, filepath.Join(shared, "rig", "fs-up.sh"), kind, size, mount)
			t.Cleanup(func() { script(t, filepath.Join(shared, "rig", "fs-down.sh"), mount) })
			test(t, mount, elsewhere)
		})
	}
}

func script(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func used(t testing.TB, mount string) int64 {
	t.Helper()
	// Not only a sync: xfs frees the blocks of deleted files in the background,
	// and a freeze waits for that.
	script(t, "fsfreeze", "--freeze", mount)
	script(t, "fsfreeze", "--unfreeze", mount)
	var s unix.Statfs_t
	must(t, unix.Statfs(mount, &s))
	return int64(s.Blocks-s.Bfree) * s.Bsize
}

// TestRigShare takes snapshots of a database of which a few pages change from
// one to the next, and which is rewritten whole in between, as Chroma does it.
func TestRigShare(t *testing.T) {
	const size = 64 << 20
	onEachFS(t, "1G", func(t *testing.T, mount, elsewhere string) {
		for _, place := range []string{"same", "other"} {
			in := &installation{dir: filepath.Join(elsewhere, "live")}
			if place == "same" {
				in.dir = filepath.Join(mount, "live")
			}
			must(t, os.MkdirAll(in.dir, 0o755))
			in.src = Sources{DB: filepath.Join(in.dir, "atocore.db"), Chroma: filepath.Join(in.dir, "chroma")}
			makeDB(t, in.src.DB, schema...)
			unpackChroma(t, in.src.Chroma)
			data := make([]byte, size)
			random := rand.NewChaCha8([32]byte{})
			_, _ = random.Read(data)
			big := filepath.Join(in.src.Chroma, "big.bin")
			must(t, os.WriteFile(big, data, 0o644))
			var err error
			in.store, err = Open(filepath.Join(mount, "backups-"+place))
			must(t, err)
			var grown []int64
			for day := range 4 {
				if day > 1 { // nothing changes on the first day
					for range 100 { // of 16384 pages
						_, _ = random.Read(data[int(random.Uint64()%(size/4096))*4096:][:4096])
					}
					must(t, os.WriteFile(big+".new", data, 0o644))
					must(t, os.Rename(big+".new", big))
				}
				before := used(t, mount)
				snap := in.mustTake(
					t,
					TakeOptions{
						Kind:   Weekly,
						Full:   true,
						Chroma: chroma.Options{Method: chroma.MethodCold},
						Share:  ShareAuto,
					},
				)
				grown = append(grown, used(t, mount)-before)
				start := time.Now()
				list := []Snapshot{snap}
				in.store.MeasureExclusive(list)
				t.Logf(
					"%s file system, day %d: %d MiB, %d KiB more on disk, %d KiB exclusive (measured in %v)",
					place,
					day,
					snap.Bytes>>20,
					grown[day]>>10,
					list[0].BytesExclusive>>10,
					time.Since(start).Round(10*time.Microsecond),
				)
			}
			in.published(t)
			reflinks := !strings.HasSuffix(t.Name(), "ext4")
			if grown[1] > 4<<20 {
				t.Errorf("%s: a day without a change took %d KiB", place, grown[1]>>10)
			}
			for _, g := range grown[2:] {
				if reflinks && g > 8<<20 || !reflinks && g < size {
					t.Errorf("%s: a day of 100 changed pages took %d KiB", place, g>>10)
				}
			}
		}
	})
}
