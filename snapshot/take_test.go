package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
)

// keys returns the sorted keys of a JSON object.
func keys(t *testing.T, doc any) string {
	t.Helper()
	object, ok := doc.(map[string]any)
	if !ok {
		t.Fatalf("%v is not an object", doc)
	}
	return strings.Join(slices.Sorted(maps.Keys(object)), " ")
}

func readAny(t *testing.T, path string) map[string]any {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	var doc map[string]any
	must(t, json.Unmarshal(data, &doc))
	return doc
}

func TestTakeLaysOutAsAtoCoreDoes(t *testing.T) {
	in := install(t)
	live := in.liveState(t)
	before := time.Now().Truncate(time.Second)
	snap := in.mustTake(t, TakeOptions{Kind: Weekly})
	if now := in.liveState(t); now != live {
		t.Errorf("the live store was\n%s, is\n%s", live, now)
	}
	const tree = ".\natobackupd.json\nbackup-metadata.json\nconfig\nconfig/project-registry.json\ndb\ndb/atocore.db\n"
	if got := fsxtest.Tree(t, snap.Path); got != tree {
		t.Errorf("the tree is\n%s", got)
	}
	if snap.Path != in.store.Path(snap.Stamp) || snap.Kind != Weekly || snap.Full || !snap.IsValid() ||
		snap.Stamp.Time().Before(before) {
		t.Errorf("%+v", snap)
	}
	if in.staged(t) != "" {
		t.Errorf("staging holds %q", in.staged(t))
	}

	meta := readAny(t, filepath.Join(snap.Path, MetadataFile))
	if got, want := keys(t, meta), "backup_root chroma_snapshot_bytes chroma_snapshot_files "+
		"chroma_snapshot_included chroma_snapshot_path created_at created_by db_size_bytes db_snapshot_path "+
		"include_chroma registry_size_bytes registry_snapshot_path vector_store_note"; got != want {
		t.Errorf("keys of the metadata: %s", got)
	}
	for key, want := range map[string]any{
		"backup_root": snap.Path, "db_snapshot_path": snap.Path + "/db/atocore.db",
		"registry_snapshot_path": snap.Path + "/config/project-registry.json",
		"registry_size_bytes":    float64(len(registryText)), "include_chroma": false,
		"chroma_snapshot_included": false, "chroma_snapshot_path": "", "chroma_snapshot_bytes": 0.0,
		"chroma_snapshot_files": 0.0, "created_by": "atobackupd 1.2.3",
	} {
		if meta[key] != want {
			t.Errorf("%s is %v, want %v", key, meta[key], want)
		}
	}
	if at, err := time.Parse(time.RFC3339, meta["created_at"].(string)); err != nil ||
		!strings.HasSuffix(meta["created_at"].(string), "Z") ||
		at.Before(before) {
		t.Errorf("created_at %v, %v", meta["created_at"], err)
	}
	if !filepath.IsAbs(meta["backup_root"].(string)) {
		t.Error("backup_root is relative")
	}

	m := readAny(t, filepath.Join(snap.Path, ManifestFile))
	for name, pair := range map[string][2]any{
		"manifest": {
			m,
			"accepted_at artifacts db files finished_at host kind note pinned roots schema stamp started_at suspect " +
				"tool_version validation",
		},
		"artifacts":  {m["artifacts"], "chroma db registry"},
		"artifact":   {m["artifacts"].(map[string]any)["db"], "bytes consistency files included method source_path"},
		"db":         {m["db"], "application_id journal_mode_of_source page_count page_size tables user_version"},
		"validation": {m["validation"], "checked_at duration_ms errors valid warnings"},
		"roots":      {m["roots"], "db registry"},
		"root":       {m["roots"].(map[string]any)["db"], "gid mode path uid"},
	} {
		if got := keys(t, pair[0]); got != pair[1] {
			t.Errorf("keys of the %s: %s", name, got)
		}
	}
	if got := snap.Manifest.DB; got.UserVersion != 7 || got.JournalModeOfSource != "wal" ||
		!maps.Equal(got.Tables, map[string]int64{"source_documents": 2, "memories": 3}) {
		t.Errorf("%+v", got)
	}
	if m["host"] != "dalidou" || m["schema"] != 1.0 || m["stamp"] != string(snap.Stamp) || m["kind"] != "weekly" {
		t.Errorf("%v", m)
	}
}

// The manifest knows every file with its digest, and the owner, mode and time of
// the live one.
func TestTakeRecordsTheLiveFiles(t *testing.T) {
	in := installFull(t)
	uid, gid := os.Geteuid(), os.Getegid()
	if uid == 0 {
		uid, gid = 1000, 1001
	}
	segments, err := filepath.Glob(filepath.Join(in.src.Chroma, "*", "header.bin"))
	must(t, err)
	segment := filepath.Dir(segments[0])
	must(t, os.Symlink("chroma.sqlite3", filepath.Join(in.src.Chroma, "inner-link")))
	must(
		t,
		filepath.WalkDir(
			filepath.Join(in.dir, "data"),
			func(path string, _ fs.DirEntry, _ error) error { return os.Lchown(path, uid, gid) },
		),
	)
	must(t, os.Lchown(in.src.Registry, uid, gid))
	old := time.Date(2020, 2, 29, 12, 0, 0, 123456789, time.UTC)
	for path, mode := range map[string]fs.FileMode{
		in.src.DB: 0o604, in.src.Registry: 0o460, in.src.Chroma: fs.ModeSetgid | 0o2750, segment: 0o700,
		filepath.Join(segment, "header.bin"): 0o600, filepath.Dir(in.src.DB): 0o751,
	} {
		must(t, os.Chmod(path, mode))
	}
	must(t, os.Chtimes(in.src.DB, old, old))
	must(t, os.Chtimes(in.src.Registry, old, old))

	snap := in.mustTake(t, TakeOptions{Full: true})
	if !snap.Full {
		t.Error("not full")
	}
	files := map[string]File{}
	for _, f := range snap.Manifest.Files {
		files[f.Path] = f
	}
	name := "chroma/" + filepath.Base(segment)
	for path, mode := range map[string]uint32{
		"db/atocore.db": 0o604, "config/project-registry.json": 0o460, "chroma": 0o2750, name: 0o700, name +
			"/header.bin": 0o600, "chroma/chroma.sqlite3": 0o644,
	} {
		f := files[path]
		if f.Mode != mode || f.UID != uid || f.GID != gid {
			t.Errorf("%s: mode %o of %d:%d, want %o of %d:%d", path, f.Mode, f.UID, f.GID, mode, uid, gid)
		}
	}
	for _, path := range []string{"db/atocore.db", "config/project-registry.json"} {
		info, err := os.Stat(filepath.Join(snap.Path, path))
		if err != nil || !files[path].MTime.Equal(old) || !info.ModTime().Equal(old) {
			t.Errorf("%s: recorded %s, stored %s", path, files[path].MTime, info.ModTime())
		}
	}
	if f := files["chroma/inner-link"]; f.Type != TypeSymlink || f.Target != "chroma.sqlite3" || f.SHA256 != "" {
		t.Errorf("the link: %+v", f)
	}
	if r := snap.Manifest.Roots[DB]; r != (Root{filepath.Dir(in.src.DB), 0o751, uid, gid}) {
		t.Errorf("root of the database: %+v", r)
	}
	if r := snap.Manifest.Roots[Chroma]; r != (Root{in.src.Chroma, 0o2750, uid, gid}) {
		t.Errorf("root of chroma: %+v", r)
	}

	// Complete, and every digest right.
	listed := []string{".", ManifestFile}
	for _, f := range snap.Manifest.Files {
		listed = append(listed, f.Path)
		if f.Type != TypeFile {
			continue
		}
		data, err := os.ReadFile(filepath.Join(snap.Path, f.Path))
		sum := sha256.Sum256(data)
		if err != nil || f.SHA256 != hex.EncodeToString(sum[:]) || f.Size != int64(len(data)) {
			t.Errorf("%s: %+v, %v", f.Path, f, err)
		}
	}
	onDisk := strings.Split(strings.TrimSpace(fsxtest.Tree(t, snap.Path)), "\n")
	slices.Sort(listed)
	slices.Sort(onDisk)
	if !slices.Equal(listed, onDisk) {
		t.Errorf("listed %q, on disk %q", listed, onDisk)
	}
	a, meta := snap.Manifest.Artifacts[Chroma], readAny(t, filepath.Join(snap.Path, MetadataFile))
	if !a.Included || a.Method != "live: optimistic (1 try)" || a.Consistency != Consistent ||
		meta["chroma_snapshot_path"] != snap.Path+"/chroma" ||
		meta["chroma_snapshot_files"] != float64(a.Files) ||
		meta["chroma_snapshot_bytes"] != float64(a.Bytes) ||
		meta["include_chroma"] != true {
		t.Errorf("%+v, %v", a, meta)
	}
	bytes, files2 := treeSize(filepath.Join(snap.Path, ChromaDir))
	if a.Bytes != bytes || a.Files != files2 {
		t.Errorf("%+v, there are %d bytes in %d files", a, bytes, files2)
	}
	in.published(t)
}

// No look at a stored database leaves anything beside it, and it stays in the
// mode of its source.
func TestNothingLeavesSidecars(t *testing.T) {
	in := install(t)
	in.mustTake(t, TakeOptions{})
	in.noSidecars(t)
	for _, stamp := range in.published(t) {
		data, err := os.ReadFile(filepath.Join(in.store.Path(stamp), DBFile))
		must(t, err)
		if data[18] != 2 || data[19] != 2 {
			t.Error("the copy is no longer in WAL mode")
		}
		_, err = in.store.Adopt(context.Background(), stamp, AdoptOptions{})
		must(t, err)
	}
	in.noSidecars(t)
}

func TestTakeThroughSymbolicLinks(t *testing.T) {
	in := installFull(t)
	real := in.src
	link := func(target string) string {
		path := filepath.Join(t.TempDir(), "link")
		must(t, os.Symlink(target, path))
		return path
	}
	in.src = Sources{DB: link(real.DB), Registry: link(real.Registry), Chroma: link(real.Chroma)}
	snap := in.mustTake(t, TakeOptions{Full: true})
	for _, f := range snap.Manifest.Files {
		if f.Mode == 0o777 || f.Type == TypeSymlink {
			t.Errorf("%+v is of the link", f)
		}
	}
	if snap.Manifest.Roots[Chroma].Path != real.Chroma || snap.Manifest.Artifacts[DB].SourcePath != in.src.DB {
		t.Errorf("%+v", snap.Manifest.Roots)
	}
	in.published(t)
}

func TestTakeWhateverTheUmask(t *testing.T) {
	in := install(t)
	defer syscall.Umask(syscall.Umask(0o077))
	snap := in.mustTake(t, TakeOptions{})
	for path, want := range map[string]fs.FileMode{
		".":          0o750,
		ManifestFile: 0o640,
		MetadataFile: 0o640,
		DBFile:       0o644,
		RegistryFile: 0o644,
	} {
		if info, err := os.Stat(filepath.Join(snap.Path, path)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, want %o", path, info.Mode(), want)
		}
	}
	in.published(t)
}

func TestRelativeStore(t *testing.T) {
	in := install(t)
	t.Chdir(in.dir)
	var err error
	in.store, err = Open("relative")
	must(t, err)
	if snap := in.mustTake(t, TakeOptions{}); snap.Path != filepath.Join(
		in.dir,
		"relative/snapshots",
		string(snap.Stamp),
	) {
		t.Errorf("path %s", snap.Path)
	}
}

func TestTakeWithoutRegistry(t *testing.T) {
	in := install(t)
	must(t, os.Remove(in.src.Registry))
	snap := in.mustTake(t, TakeOptions{})
	if a := snap.Manifest.Artifacts[Registry]; a.Included || a.SourcePath != in.src.Registry {
		t.Errorf("%+v", a)
	}
	if meta := readAny(t, filepath.Join(snap.Path, MetadataFile)); meta["registry_snapshot_path"] != "" ||
		meta["registry_size_bytes"] != 0.0 {
		t.Errorf("%v", meta)
	}
	if exists(filepath.Join(snap.Path, "config")) {
		t.Error("there is a config directory")
	}
	in.published(t)
}

// An editor that rewrites the registry in place is sat out: what is stored is
// whole.
func TestTakeWhileTheRegistryIsEdited(t *testing.T) {
	in := install(t)
	big := []byte(`{"projects": [` + strings.Repeat(`"p05", `, 1000) + `"p06"]}`)
	// A save that takes its time: half of it is there when the take begins.
	must(t, os.WriteFile(in.src.Registry, big[:len(big)/2], 0o644))
	saved := make(chan error)
	go func() {
		time.Sleep(registryPause / 2)
		saved <- os.WriteFile(in.src.Registry, big, 0o644)
	}()
	snap := in.mustTake(t, TakeOptions{})
	must(t, <-saved)
	if data, err := os.ReadFile(filepath.Join(snap.Path, RegistryFile)); err != nil || !bytes.Equal(data, big) {
		t.Errorf("stored %d bytes, %v", len(data), err)
	}
}

// An editor that moves the old file away before it writes the new one must not
// make a snapshot without a registry.
func TestTakeWhileTheRegistryIsReplaced(t *testing.T) {
	in := install(t)
	aside := in.src.Registry + "~"
	must(t, os.Rename(in.src.Registry, aside))
	back := make(chan error)
	go func() {
		time.Sleep(registryPause / 2)
		back <- os.Rename(aside, in.src.Registry)
	}()
	snap := in.mustTake(t, TakeOptions{})
	must(t, <-back)
	if !snap.Manifest.Artifacts[Registry].Included {
		t.Error("the registry is not in the snapshot")
	}
}
