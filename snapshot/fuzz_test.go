package snapshot

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// FuzzManifest lays an arbitrary manifest in a snapshot: it is listed, validated and
// compared without a panic, nothing outside of the snapshot is opened, and it is
// valid only where its own words fit what lies there.
func FuzzManifest(f *testing.F) {
	in := install(f)
	snap := in.mustTake(f, TakeOptions{Kind: Daily})
	whole, err := os.ReadFile(filepath.Join(snap.Path, ManifestFile))
	must(f, err)
	f.Add(whole)
	for _, seed := range []string{
		"", "null", "{}", "[]", `{"schema": 1}`, `{"schema": 2}`,
		`{"schema": 1, "files": null, "artifacts": {"db": null}}`,
		`{"schema": 1, "stamp": "../../etc", "files": [{"path": "../../../etc/shadow", "type": "file", "size": 1}]}`,
		`{"schema": 1, "files": [{"path": "/etc/shadow", "type": "file"}, ` +
			`{"path": "", "type": "symlink", "target": "/"}]}`,
		`{"schema": 1, "artifacts": {"db": {"method": "atocore", "included": true}}, "validation": {"valid": true}}`,
		`{"schema": 1, "db": {"tables": {"": -1}}, "roots": {"db": {"path": "/"}}, "accepted_at": "x"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, manifest []byte) {
		must(t, os.WriteFile(filepath.Join(snap.Path, ManifestFile), manifest, 0o600))
		s, err := in.store.Get(snap.Stamp)
		if err == nil && s.Counts(time.Now().Add(time.Hour)) && s.Manifest == nil {
			t.Errorf("it counts without a manifest: %+v", s)
		}
		_, _, err = in.store.List(time.Now())
		must(t, err)
		if _, err := in.store.Validate(context.Background(), snap.Stamp, ValidateOptions{}); err != nil {
			t.Error(err)
		}
	})
}

// FuzzMetadata lays arbitrary metadata in a snapshot that AtoCore made.
func FuzzMetadata(f *testing.F) {
	in := install(f)
	snap := in.mustTake(f, TakeOptions{Kind: Daily})
	whole, err := os.ReadFile(filepath.Join(snap.Path, MetadataFile))
	must(f, err)
	must(f, os.Remove(filepath.Join(snap.Path, ManifestFile)))
	f.Add(whole)
	for _, seed := range []string{
		"", "null", "{}", "[]", `{"db_snapshot_path": 7}`, `{"db_snapshot_path": "/x/../.."}`, `{"created_at": "now"}`,
		`{"registry_snapshot_path": "/", "chroma_snapshot_included": true}`, `{"db_snapshot_path": "a\u0000b"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, metadata []byte) {
		must(t, os.WriteFile(filepath.Join(snap.Path, MetadataFile), metadata, 0o600))
		_, _ = in.store.Get(snap.Stamp)
		if _, err := in.store.Validate(context.Background(), snap.Stamp, ValidateOptions{}); err != nil {
			t.Error(err)
		}
		from, content, err := in.store.openForeign(snap.Stamp, tree.Trusted(in.store.dir))
		if err != nil {
			return
		}
		if !filepath.IsLocal(content.DB) || !filepath.IsLocal(content.Registry) {
			t.Errorf("it leads out: %+v", content)
		}
		must(t, from.close())
	})
}

// FuzzParseStamp: what is taken for a stamp is sixteen plain characters that name its
// second, for it becomes the name of a directory.
func FuzzParseStamp(f *testing.F) {
	for _, seed := range []string{"20260407T060000Z", "20260230T000000Z", "00000101T000000Z", "20260407T060000.5Z", "..",
		"20260407T060000Z\n", "٢٠260407T060000Z", "20260407T246060Z", "+0260407T060000Z"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		stamp, err := ParseStamp(text)
		if err != nil {
			return
		}
		if !regexp.MustCompile(`^\d{8}T\d{6}Z$`).MatchString(text) || string(StampOf(stamp.Time())) != text {
			t.Errorf("%q is %v", text, stamp.Time())
		}
	})
}
