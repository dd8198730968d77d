package sqlite

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/fsx"
)

// BenchmarkCopy copies a WAL database under a writer that commits 50 times a
// second, and beside it the same file by cp and fsync. "x-cp" is the ratio of
// the medians. SQLITE_BENCH_MB sets the size, 64 by default.
func BenchmarkCopy(b *testing.B) {
	size := 64
	if text := os.Getenv("SQLITE_BENCH_MB"); text != "" {
		var err error
		if size, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	dir := b.TempDir()
	path, dst := filepath.Join(dir, "live.db"), filepath.Join(dir, "copy.db")
	s, err := openStore(job{Path: path, Journal: "off"})
	if err != nil {
		b.Fatal(err)
	}
	if err := s.fill(size << 20 / 4096); err != nil { // one row a page
		b.Fatal(err)
	}
	if err := s.db.Close(); err != nil {
		b.Fatal(err)
	}
	if err := fsx.SyncFile(path); err != nil {
		b.Fatal(err)
	}
	stopWriter := benchWriter(b, path)
	var copied, plain []time.Duration
	for b.Loop() {
		began := time.Now()
		if _, err := Copy(context.Background(), liveAt(path), dst, CopyOptions{Share: true}); err != nil {
			b.Fatal(err)
		}
		copied = append(copied, time.Since(began))
		b.StopTimer()
		remove(b, dst)
		began = time.Now()
		if out, err := exec.Command("cp", path, dst).CombinedOutput(); err != nil {
			b.Fatalf("cp: %v %s", err, out)
		}
		if err := fsx.SyncFile(dst); err != nil {
			b.Fatal(err)
		}
		plain = append(plain, time.Since(began))
		remove(b, dst)
		b.StartTimer()
	}
	stopWriter()
	b.ReportMetric(median(copied), "copy-s")
	b.ReportMetric(median(plain), "cp-s")
	b.ReportMetric(median(copied)/median(plain), "x-cp")
}

// median because other work on the machine makes some runs several times slower.
func median(all []time.Duration) float64 {
	slices.Sort(all)
	return all[len(all)/2].Seconds()
}

// remove deletes a copy and waits until the disk is quiet, so that what one
// way leaves to write does not slow the other down.
func remove(b *testing.B, path string) {
	b.Helper()
	if err := os.Remove(path); err != nil {
		b.Fatal(err)
	}
	if err := fsx.SyncDir(filepath.Dir(path)); err != nil {
		b.Fatal(err)
	}
}

func benchWriter(b *testing.B, path string) (stop func()) {
	b.Helper()
	w := start(b, "writer", job{Path: path, Journal: "wal", Pause: 20 * time.Millisecond})
	w.Line()
	go func() {
		for w.Scan() {
		}
	}()
	return w.Kill
}
