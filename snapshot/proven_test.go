package snapshot

import (
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
