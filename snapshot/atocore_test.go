package snapshot

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
)

const theirs = Stamp("20260407T060000Z")

// made lays out a snapshot as AtoCore makes it, its database named db.
func (in *installation) made(t testing.TB, db string, metadata any, full bool) string {
	t.Helper()
	dir := in.store.Path(theirs)
	for _, sub := range []string{"db", "config"} {
		must(t, os.MkdirAll(filepath.Join(dir, sub), 0o755))
	}
	makeDB(t, filepath.Join(dir, "db", db), schema...)
	must(t, os.WriteFile(filepath.Join(dir, "config/project-registry.json"), []byte(registryText), 0o644))
	if full {
		unpackChroma(t, filepath.Join(dir, "chroma"))
	}
	if metadata != nil {
		data, err := json.Marshal(metadata)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, MetadataFile), data, 0o644))
	}
	return dir
}

// allKeys is the metadata as AtoCore writes it inside its container.
func allKeys(db string, full bool) map[string]any {
	root := "/data/backups/snapshots/" + string(theirs)
	m := map[string]any{
		"created_at": "2026-04-07T06:00:00.123456+00:00", "backup_root": root,
		"db_snapshot_path": root + "/db/" + db, "db_size_bytes": 12288,
		"registry_snapshot_path": root + "/config/project-registry.json", "registry_size_bytes": 45,
		"include_chroma": full, "chroma_snapshot_included": full, "chroma_snapshot_path": "",
		"chroma_snapshot_bytes": 0, "chroma_snapshot_files": 0,
		"vector_store_note": "cold copy",
	}
	if full {
		m["chroma_snapshot_path"] = root + "/chroma"
	}
	return m
}

func with(m map[string]any, changes ...any) map[string]any {
	for i := 0; i < len(changes); i += 2 {
		m[changes[i].(string)] = changes[i+1]
	}
	return m
}

// What AtoCore made is listed, validated, and adopted when it is good, whatever
// its metadata leave out.
func TestSnapshotsOfAtoCore(t *testing.T) {
	for name, test := range map[string]struct {
		db       string
		metadata any
		full     bool
		harm     func(t *testing.T, dir string)
		want     string // codes of errors
	}{
		"all keys":       {"atocore.db", allKeys("atocore.db", false), false, nil, ""},
		"all keys, full": {"atocore.db", allKeys("atocore.db", true), true, nil, ""},
		"another name":   {"live.sqlite", allKeys("live.sqlite", false), false, nil, ""},
		"no keys":        {"atocore.db", map[string]any{}, true, nil, ""},
		"some keys": {
			"atocore.db",
			map[string]any{"backup_root": "/x", "registry_snapshot_path": nil},
			false,
			nil,
			"",
		},
		"a time without zone": {
			"atocore.db",
			with(allKeys("atocore.db", false), "created_at", "2026-04-07 06:00"),
			false,
			nil,
			"",
		},
		"strange types": {
			"atocore.db",
			with(allKeys("atocore.db", false), "include_chroma", "no", "db_size_bytes", 1.5, "created_at", 7),
			false,
			nil,
			"",
		},
		"hostile path": {
			"atocore.db",
			with(allKeys("atocore.db", false), "db_snapshot_path", "../../.."),
			false,
			nil,
			"",
		},
		"metadata null": {"atocore.db", json.RawMessage("null"), false, nil, "metadata_invalid_json"},
		"claims more":   {"atocore.db", allKeys("atocore.db", true), false, nil, "chroma_snapshot_missing"},
		"registry named, gone": {
			"atocore.db",
			allKeys("atocore.db", false),
			false,
			func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, RegistryFile))) },
			"registry_missing",
		},
		"registry not named, gone": {"atocore.db", with(
			allKeys("atocore.db", false),
			"registry_snapshot_path",
			"",
		), false,
			func(t *testing.T, dir string) { must(t, os.RemoveAll(filepath.Join(dir, "config"))) }, ""},
		"rotten": {
			"atocore.db",
			allKeys("atocore.db", false),
			false,
			func(t *testing.T, dir string) { rotDB(t, filepath.Join(dir, DBFile)) },
			"db_integrity_check_failed",
		},
		"database gone": {
			"atocore.db",
			allKeys("atocore.db", false),
			false,
			func(t *testing.T, dir string) { must(t, os.RemoveAll(filepath.Join(dir, "db"))) },
			"db_snapshot_missing",
		},
		"with a sidecar": {"other.db", allKeys("other.db", false), false, func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, "db/other.db-wal"), []byte("x"), 0o600))
		}, "db_sidecar_present"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := install(t)
			dir := in.made(t, test.db, test.metadata, test.full)
			if test.harm != nil {
				test.harm(t, dir)
			}
			before := fsxtest.State(t, dir)
			list, warnings, err := in.store.List(time.Now())
			if err != nil || len(list) != 1 || len(warnings) != 0 {
				t.Fatalf("%v, %q, %v", list, warnings, err)
			}
			if s := list[0]; s.Kind != Adopted || s.Valid != nil || s.Manifest != nil || s.Full != test.full ||
				s.RawMetadata == nil ||
				s.Bytes == 0 {
				t.Errorf("%+v", s)
			}
			result, err := in.store.Adopt(
				context.Background(),
				theirs,
				AdoptOptions{Host: "dalidou", ToolVersion: "1", Sources: in.src},
			)
			if err != nil || codes(result.Errors) != test.want || result.Valid != (test.want == "") {
				t.Fatalf("%+v, %v", result, err)
			}
			snap, err := in.store.Get(theirs)
			must(t, err)
			if test.want != "" {
				if snap.Manifest != nil || fsxtest.State(t, dir) != before {
					t.Error("a bad one was touched")
				}
				return
			}
			after := strings.Split(fsxtest.State(t, dir), "\n")
			kept := after[:0]
			for _, line := range after {
				if !strings.Contains(line, "/"+ManifestFile) {
					kept = append(kept, line)
				}
			}
			if strings.Join(kept, "\n") != before {
				t.Errorf("more than the manifest was added:\n%s", strings.Join(kept, "\n"))
			}
			m := snap.Manifest
			if m == nil || m.Kind != Adopted || !snap.IsValid() || snap.Full != test.full ||
				m.Artifacts[DB].Method != "atocore" ||
				m.Artifacts[DB].Bytes != 12288 ||
				m.Artifacts[DB].Files != 1 ||
				m.DB.Tables["memories"] != 3 ||
				m.Roots[DB].Path != filepath.Dir(in.src.DB) {
				t.Errorf("%+v", m)
			}
			in.published(t)
			again, err := in.store.Adopt(context.Background(), theirs, AdoptOptions{})
			if err != nil || !again.Valid || !strings.Contains(strings.Join(again.Checked, " "), "checksums") {
				t.Errorf("%+v, %v", again, err)
			}
			edit(t, filepath.Join(dir, "db", test.db), func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
			if result := in.validate(t, theirs); !hasCode(result.Errors, "checksum_mismatch") {
				t.Errorf("rot after the adoption is not seen: %+v", result)
			}
		})
	}
}

// One without metadata is still being made: nobody sees it, and after an hour
// somebody is told.
func TestAtoCoreIsStillWriting(t *testing.T) {
	in := install(t)
	dir := in.made(t, "atocore.db", nil, false)
	now := time.Now()
	for after, want := range map[time.Duration]int{time.Minute: 0, 59 * time.Minute: 0, 61 * time.Minute: 1} {
		list, warnings, err := in.store.List(now.Add(after))
		if err != nil || len(list) != 0 || len(warnings) != want {
			t.Errorf("after %s: %v, %q, %v", after, list, warnings, err)
		}
		if want == 1 &&
			warnings[0] != fmt.Sprintf(
				"%s has no backup-metadata.json for more than an hour: whoever made it did not finish",
				dir,
			) {
			t.Error(warnings[0])
		}
	}
	_, err := in.store.Get(theirs)
	wantError(t, err, failure.NotFound, "no such snapshot")
	wantError(t, in.store.Pin(theirs, true), failure.NotFound)
	must(t, os.WriteFile(filepath.Join(dir, MetadataFile), []byte("{}"), 0o600))
	wantError(
		t,
		in.store.Pin(theirs, true),
		failure.Invalid,
		"no manifest to carry the mark",
		"the next prune adopts it",
	)
}

// An adoption that fails, at whatever call, leaves AtoCore's directory as it was.
func TestAdoptFailing(t *testing.T) {
	in := install(t)
	dir := in.made(t, "atocore.db", allKeys("atocore.db", false), false)
	before := fsxtest.State(t, dir)
	fsxtest.EachFailure(t, func() error {
		_, err := in.store.Adopt(context.Background(), theirs, AdoptOptions{})
		return err
	}, func(k int, at string, err error) {
		wantError(t, err, failure.Other, "adopt: "+string(theirs), "give this process write access")
		if !strings.HasPrefix(at, "fsync-dir") && fsxtest.State(t, dir) != before || in.staged(t) != "" {
			t.Errorf("%s: changed it", at)
		}
		_ = os.Remove(filepath.Join(dir, ManifestFile))
	})
}

// A manifest that cannot be understood marks the snapshot and is told. What a
// later version wrote, or what could not be read, is found invalid only now:
// days of grace begin anew with every look.
func TestUnreadableManifestsInTheList(t *testing.T) {
	now := time.Now().Add(time.Hour)
	for text, grace := range map[string]bool{
		`{"schema": 9}`:             true,
		`{"schema": 1, "files": 3}`: false,
		`{`:                         false,
		``:                          false,
	} {
		in := install(t)
		snap := in.mustTake(t, TakeOptions{})
		must(t, os.WriteFile(filepath.Join(snap.Path, ManifestFile), []byte(text), 0o600))
		list, warnings, err := in.store.List(now)
		if err != nil || len(list) != 1 || len(warnings) != 1 || !strings.Contains(warnings[0], ManifestFile) {
			t.Fatalf("%q: %v, %q, %v", text, list, warnings, err)
		}
		if s := list[0]; s.IsValid() || s.Valid == nil || codes(s.Errors) != "metadata_invalid_json" ||
			s.Checked.Equal(now) != grace {
			t.Errorf("%q: %+v", text, s)
		}
	}
}
