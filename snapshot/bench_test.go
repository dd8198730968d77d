package snapshot

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkTake takes snapshots of a database of 64 MiB, copying included.
func BenchmarkTake(b *testing.B) {
	in := install(b)
	execDB(b, in.src.DB, `WITH RECURSIVE c(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM c WHERE i < 16384)
		INSERT INTO memories(content) SELECT hex(randomblob(2000)) FROM c`)
	info, err := os.Stat(in.src.DB)
	must(b, err)
	b.SetBytes(info.Size())
	for b.Loop() {
		snap := in.mustTake(b, TakeOptions{})
		b.StopTimer()
		must(b, in.store.Delete(snap.Stamp)) // its stamp is free again at once
		b.StartTimer()
	}
}

// BenchmarkList lists 14 snapshots, each with a Chroma directory of as many
// files: status, metrics and the dashboard all ask for it.
func BenchmarkList(b *testing.B) {
	for _, files := range []int{10, 1000, 20000} {
		b.Run(fmt.Sprint(files), func(b *testing.B) {
			in := install(b)
			snap := in.mustTake(b, TakeOptions{})
			for i := range files {
				dir := filepath.Join(snap.Path, ChromaDir, fmt.Sprint(i/5))
				must(b, os.MkdirAll(dir, 0o700))
				must(b, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600))
			}
			agree(b, snap.Path)
			for i := 1; i < 14; i++ {
				stamp := StampOf(snap.Stamp.Time().Add(-time.Duration(i) * 24 * time.Hour))
				linkTree(b, snap.Path, in.store.Path(stamp))
				rewrite(b, in.store.Path(stamp), func(m *Manifest) { m.Stamp = stamp })
			}
			for b.Loop() {
				list, warnings, err := in.store.List(time.Now())
				if err != nil || len(list) != 14 || len(warnings) != 0 {
					b.Fatal(len(list), warnings, err)
				}
			}
		})
	}
}

// linkTree makes dst a copy of src whose files are hard links, but for the
// manifest.
func linkTree(b *testing.B, src, dst string) {
	b.Helper()
	must(b, os.Mkdir(dst, 0o700))
	files, err := scan(src, ".")
	must(b, err)
	for _, f := range files {
		if f.Type == TypeDir {
			must(b, os.Mkdir(filepath.Join(dst, f.Path), 0o700))
			continue
		}
		must(b, os.Link(filepath.Join(src, f.Path), filepath.Join(dst, f.Path)))
	}
	data, err := os.ReadFile(filepath.Join(src, ManifestFile))
	must(b, err)
	must(b, os.WriteFile(filepath.Join(dst, ManifestFile), data, 0o600))
}
