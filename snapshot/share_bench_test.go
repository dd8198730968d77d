//go:build rig

package snapshot

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/snapshot/chroma"
)

// BenchmarkRigSeventeen takes the 17 snapshots that the default retention keeps,
// of 17 days of a store, and says what they take on disk. ATOBACKUPD_DAYS names a
// directory with day0 to day16 in it, each with db/atocore.db and chroma/.
//
//	go test -tags rig -run '^$' -bench Seventeen -benchtime 1x ./snapshot
func BenchmarkRigSeventeen(b *testing.B) {
	days := os.Getenv("ATOBACKUPD_DAYS")
	if days == "" {
		b.Fatal("set ATOBACKUPD_DAYS to a directory with day0 to day16 of a store")
	}
	for _, share := range []Share{ShareCopy, ShareAuto} {
		for _, place := range []string{"same", "other"} {
			b.Run(fmt.Sprintf("%s-%s", share, place), func(b *testing.B) {
				// A fresh one each time: xfs frees what was deleted when it likes.
				onEachFS(b, "6G", func(b *testing.B, mount, elsewhere string) {
					live := filepath.Join(elsewhere, "live")
					if place == "same" {
						live = filepath.Join(mount, "live")
					}
					in := &installation{
						dir: live,
						src: Sources{DB: filepath.Join(live, "db/atocore.db"), Chroma: filepath.Join(live, "chroma")},
					}
					var err error
					in.store, err = Open(filepath.Join(mount, "backups"))
					must(b, err)
					seventeen(b, in, days, mount, share)
				})
			})
		}
	}
}

func seventeen(b *testing.B, in *installation, days, mount string, share Share) {
	var plain, took int64
	var longest, spent time.Duration
	for day := range 17 {
		liveDay(b, filepath.Join(days, fmt.Sprintf("day%d", day)), in.dir)
		if day == 0 {
			took -= used(b, mount) // the live store, or nothing
		}
		full := day < 11 // months and weeks, and then the days of this week
		start := time.Now()
		snap, err := in.take(TakeOptions{Full: full, Chroma: chroma.Options{Method: chroma.MethodCold}, Share: share})
		if err != nil {
			b.Fatal(err)
		}
		spent += time.Since(start)
		longest = max(longest, time.Since(start))
		plain += snap.Bytes
	}
	script(b, "sync", "-f", mount)
	took += used(b, mount)
	list, _, err := in.store.List(time.Now())
	must(b, err)
	start := time.Now()
	in.store.MeasureExclusive(list)
	measured := time.Since(start)
	for _, snap := range list {
		if r, err := in.store.Validate(context.Background(), snap.Stamp, ValidateOptions{}); err != nil || !r.Valid {
			b.Fatalf("%s: %q, %v", snap.Stamp, r.Errors, err)
		}
	}
	b.Logf(
		"%d snapshots, %d MiB as plain copies, %d MiB on disk (%.1f %%); a take %v, at most %v; exclusive bytes in %v",
		len(list),
		plain>>20,
		took>>20,
		100*float64(
			took,
		)/float64(
			plain,
		),
		(spent / 17).Round(time.Millisecond),
		longest.Round(time.Millisecond),
		measured.Round(time.Millisecond),
	)
}

// liveDay brings the live store to a day, as the application would: a database
// page by page, the segments of Chroma whole and in place.
func liveDay(b *testing.B, from, to string) {
	b.Helper()
	must(b, filepath.WalkDir(from, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		// What is made in Chroma's shape has not all of its substance; under
		// another name it is copied and not judged.
		rel, err := filepath.Rel(from, path)
		must(b, err)
		dst := filepath.Join(to, strings.Replace(rel, "chroma.sqlite3", "records.sqlite3", 1))
		data, err := os.ReadFile(path)
		must(b, err)
		must(b, os.MkdirAll(filepath.Dir(dst), 0o755))
		was, _ := os.ReadFile(dst)
		if bytes.Equal(was, data) {
			return nil
		}
		f, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE, 0o644)
		must(b, err)
		for at := 0; at < len(data); at += pageSize {
			page := data[at:min(at+pageSize, len(data))]
			if inPlace := strings.Contains(rel, "sqlite3") || strings.HasSuffix(rel, ".db"); inPlace &&
				samePage(page, was[min(at, len(was)):], 0) {
				continue
			}
			_, err := f.WriteAt(page, int64(at))
			must(b, err)
		}
		must(b, f.Truncate(int64(len(data))))
		must(b, f.Sync())
		return f.Close()
	}))
}
