package snapshot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
	"github.com/atocore/atobackupd/snapshot/chroma"
)

// stat returns what the file system knows of a stored file.
func stat(t testing.TB, snap Snapshot, name string) *syscall.Stat_t {
	t.Helper()
	info, err := os.Lstat(filepath.Join(snap.Path, filepath.FromSlash(name)))
	must(t, err)
	return info.Sys().(*syscall.Stat_t)
}

func (in *installation) entry(t testing.TB, snap Snapshot, name string) File {
	t.Helper()
	for _, f := range snap.Manifest.Files {
		if f.Path == name {
			return f
		}
	}
	t.Fatalf("%s has no %s", snap.Stamp, name)
	return File{}
}

// linked tells which files of a snapshot are the other's, by name.
func linked(t testing.TB, a, b Snapshot) (names []string) {
	t.Helper()
	for _, f := range b.Manifest.Files {
		if f.Type != TypeFile {
			continue
		}
		if _, err := os.Lstat(filepath.Join(a.Path, f.Path)); err == nil &&
			stat(t, a, f.Path).Ino == stat(t, b, f.Path).Ino {
			names = append(names, f.Path)
		}
	}
	return names
}

func TestHardLinksToWhatIsUnchanged(t *testing.T) {
	in := installFull(t)
	o := TakeOptions{Kind: Weekly, Full: true, Chroma: chroma.Options{Method: chroma.MethodCold}, Share: ShareHardlink}
	first := in.mustTake(t, o)
	execDB(t, in.src.DB, "INSERT INTO memories VALUES(4, 'd', 1)")
	second := in.mustTake(t, o)
	files := 0
	for _, f := range second.Manifest.Files {
		if f.Type == TypeFile {
			files++
		}
	}
	// Not the database, which has a row more, nor the metadata.
	names := linked(t, first, second)
	if len(names) != files-2 || strings.Contains(strings.Join(names, " "), DBFile) {
		t.Errorf("%d of %d files are linked: %q", len(names), files, names)
	}
	for _, name := range names {
		if mode := stat(t, second, name).Mode & 0o7777; mode&0o022 != 0 || mode&0o600 != 0o600 {
			t.Errorf("%s has mode %o", name, mode)
		}
	}
	// What a restore gives back is what the live files have.
	if f := in.entry(t, second, RegistryFile); f.Mode != 0o644 || f.UID != os.Getuid() {
		t.Errorf("the manifest says %+v", f)
	}
	in.published(t)

	list := []Snapshot{first, second}
	in.store.MeasureExclusive(list)
	want := second.Bytes
	for _, name := range names {
		want -= in.entry(t, second, name).Size
	}
	if list[1].BytesExclusive != want {
		t.Errorf("%d bytes exclusive, want %d", list[1].BytesExclusive, want)
	}
	if all := Freed(list); all != first.Bytes+want {
		t.Errorf("deleting both frees %d bytes, want %d", all, first.Bytes+want)
	}
	// What the first one shared is the second's alone once the first is gone.
	must(t, in.store.Delete(first.Stamp))
	in.store.MeasureExclusive(list[1:])
	if list[1].BytesExclusive != second.Bytes {
		t.Errorf("%d bytes exclusive of %d", list[1].BytesExclusive, second.Bytes)
	}
	in.published(t)
}

// A block that rotted in one snapshot does not get into the next one, and the
// one after that links to the good file.
func TestRotDoesNotSpread(t *testing.T) {
	in := install(t)
	o := TakeOptions{Share: ShareAuto}
	first := in.mustTake(t, o)
	rotten := filepath.Join(first.Path, RegistryFile)
	before, err := os.Lstat(rotten)
	must(t, err)
	must(t, os.Chmod(rotten, 0o600))
	must(t, os.WriteFile(rotten, []byte(strings.Replace(registryText, "p05", "p06", 1)), 0o600))
	must(t, os.Chtimes(rotten, before.ModTime(), before.ModTime()))
	second := in.mustTake(t, o)
	if names := linked(t, first, second); len(names) != 0 && names[0] != DBFile {
		t.Errorf("linked: %q", names)
	}
	sameBytes(t, in.src.Registry, filepath.Join(second.Path, RegistryFile))
	third := in.mustTake(t, o)
	if names := linked(t, second, third); !strings.Contains(strings.Join(names, " "), RegistryFile) {
		t.Errorf("not linked to the good one: %q", names)
	}
	if r := in.validate(t, second.Stamp); !r.Valid {
		t.Error(r.Errors)
	}
}

func TestShareOnlyWhatIsTheSame(t *testing.T) {
	in := install(t)
	for name, change := range map[string]func(){
		"newer time":  func() { must(t, os.Chtimes(in.src.Registry, time.Now(), time.Now())) },
		"other bytes": func() { must(t, os.WriteFile(in.src.Registry, []byte(strings.ToUpper(`{"a": 1}`)), 0o644)) },
	} {
		first := in.mustTake(t, TakeOptions{Share: ShareHardlink})
		change()
		second := in.mustTake(t, TakeOptions{Share: ShareHardlink})
		if names := linked(t, first, second); strings.Contains(strings.Join(names, " "), RegistryFile) {
			t.Errorf("%s: linked %q", name, names)
		}
	}
	for _, share := range []Share{"", ShareCopy, ShareReflink} {
		first := in.mustTake(t, TakeOptions{Share: share})
		if names := linked(t, first, in.mustTake(t, TakeOptions{Share: share})); len(names) > 0 {
			t.Errorf("share %q linked %q", share, names)
		}
	}
	// What AtoCore made may still be written to by AtoCore.
	in.freshStore(t)
	stamp := StampOf(time.Now().Add(-time.Hour))
	theirs := in.mustTake(t, TakeOptions{})
	must(t, os.Rename(theirs.Path, in.store.Path(stamp)))
	must(t, os.Remove(filepath.Join(in.store.Path(stamp), ManifestFile)))
	_, err := in.store.Adopt(context.Background(), stamp, AdoptOptions{Sources: in.src})
	must(t, err)
	adopted, err := in.store.Get(stamp)
	must(t, err)
	if names := linked(t, adopted, in.mustTake(t, TakeOptions{Share: ShareHardlink})); len(names) > 0 {
		t.Errorf("linked to what AtoCore made: %q", names)
	}
}

// Sharing may fail at each of its steps; the snapshot is whole either way, and
// the one that it shares with is, too.
func TestSharingFailing(t *testing.T) {
	in := installFull(t)
	o := TakeOptions{Kind: Weekly, Full: true, Chroma: chroma.Options{Method: chroma.MethodCold}, Share: ShareHardlink}
	in.mustTake(t, o)
	failed := 0
	fsxtest.EachFailure(t, func() error {
		_, err := in.take(o)
		return err
	}, func(k int, at string, err error) {
		if strings.HasPrefix(at, "link ") && strings.Contains(at, ".link") {
			if failed++; err != nil {
				t.Errorf("failure %d (%s): %v", k, at, err)
			}
		}
		if err != nil && !errors.Is(err, fsxtest.ErrInjected) &&
			!strings.Contains(err.Error(), fsxtest.ErrInjected.Error()) {
			t.Errorf("failure %d (%s): %v", k, at, err)
		}
		if k%40 == 0 {
			in.published(t)
		}
		list, _, err := in.store.List(time.Now())
		must(t, err)
		for _, snap := range list[1:] {
			must(t, in.store.Delete(snap.Stamp))
		}
		if _, _, err := in.store.Sweep(); err != nil {
			t.Fatal(err)
		}
	})
	if failed == 0 {
		t.Error("no link failed: the test proves nothing")
	}
	in.published(t)
}
