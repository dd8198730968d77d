package snapshot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/snapshot/chroma"
)

// What has the bytes that were validated a moment ago is not checked again, and what
// has others is: each artifact is harmed, then its harmed bytes are called proven.
func TestTakeProven(t *testing.T) {
	for name, test := range map[string]struct {
		file string
		harm func(t *testing.T, in *installation)
	}{
		"db": {DBFile, func(t *testing.T, in *installation) {
			edit(t, in.src.DB, overwrite(36, "\x00\x00\x00\x07")) // free pages that there are not
		}},
		"chroma": {ChromaDir + "/chroma.sqlite3", func(t *testing.T, in *installation) {
			edit(t, filepath.Join(in.src.Chroma, "chroma.sqlite3"), overwrite(4096, strings.Repeat("rotten", 1000)))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := installFull(t)
			result := in.validate(t, in.before(t).Stamp)
			proven := result.Proven()
			if proven == nil {
				t.Fatalf("a valid snapshot proves nothing: %+v", result)
			}
			test.harm(t, in)
			again := func(p *Proven) Snapshot {
				return in.mustTake(t, TakeOptions{
					Kind: PreRestore, Tolerant: true, Full: true, Proven: p,
					Chroma: chroma.Options{Method: chroma.MethodCold},
				})
			}
			harmed := again(proven)
			if harmed.IsValid() {
				t.Error("other bytes than those that were proven were not checked")
			}
			for _, f := range harmed.Manifest.Files {
				if f.Path == test.file {
					proven.files[f.Path] = f
				}
			}
			if same := again(proven); !same.IsValid() || same.Manifest.DB == nil {
				t.Errorf("checked although it was proven: %q", same.Errors)
			}
			proven.files[test.file+"/more"] = File{}
			if less := again(proven); less.IsValid() && name == "db" {
				t.Error("a part of what was proven was not checked")
			}
			invalid := in.validate(t, harmed.Stamp)
			if invalid.Proven() != nil {
				t.Error("an invalid snapshot proves something")
			}
		})
	}
}

// What a restore moved aside and holds just what was restored becomes other names of
// it; what only looks the same, or has a journal, is copied, and the snapshot that was
// proven stays as it is.
func TestTakeProvenLinks(t *testing.T) {
	t.Parallel()
	in := installFull(t)
	before := in.before(t)
	chromaDB := ChromaDir + "/chroma.sqlite3"
	take := func(share Share) (linked map[string]bool) {
		t.Helper()
		result := in.validate(t, before.Stamp)
		proven := result.Proven()
		snap := in.mustTake(t, TakeOptions{
			Kind: PreRestore, Tolerant: true, Full: true, Proven: proven, Share: share,
			Chroma: chroma.Options{Method: chroma.MethodCold},
		})
		linked = map[string]bool{}
		for _, f := range snap.Manifest.Files {
			a, errA := os.Lstat(filepath.Join(snap.Path, f.Path))
			b, errB := os.Lstat(proven.path(f.Path))
			if errA == nil && errB == nil && f.Type == TypeFile && os.SameFile(a, b) {
				linked[f.Path] = true
			}
		}
		if r := in.validate(t, before.Stamp); r.Proven() == nil {
			t.Errorf("what was proven is no longer so: %+v %+v", r.Errors, r.Warnings)
		}
		if r := in.validate(t, snap.Stamp); r.Valid != snap.IsValid() {
			t.Errorf("valid %t when it was taken: now %+v", snap.IsValid(), r.Errors)
		}
		if left, _ := os.ReadDir(in.store.staging()); len(left) > 0 {
			t.Errorf("left in staging/: %v", left)
		}
		return linked
	}
	live := map[string]string{DBFile: in.src.DB, chromaDB: filepath.Join(in.src.Chroma, "chroma.sqlite3")}
	for _, f := range before.Manifest.Files {
		if live[f.Path] == "" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(before.Path, f.Path))
		must(t, err)
		must(t, os.WriteFile(live[f.Path], data, 0o644))
		must(t, os.Chtimes(live[f.Path], f.MTime, f.MTime))
	}
	if linked := take(ShareHardlink); !linked[DBFile] || !linked[chromaDB] {
		t.Errorf("linked only %v", linked)
	}
	if linked := take(ShareCopy); len(linked) > 0 {
		t.Errorf("linked %v although nothing is to be shared", linked)
	}
	info, err := os.Lstat(in.src.DB)
	must(t, err)
	edit(t, in.src.DB, overwrite(int(info.Size())-8, "otherend"))
	must(t, os.Chtimes(in.src.DB, info.ModTime(), info.ModTime()))
	must(t, os.WriteFile(live[chromaDB]+"-journal", []byte("it will be settled"), 0o644))
	if linked := take(ShareHardlink); linked[DBFile] || linked[chromaDB] {
		t.Errorf("linked although it is otherwise: %v", linked)
	}
}
