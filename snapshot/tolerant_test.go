package snapshot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/snapshot/chroma"
)

// before is the take before a restore.
func (in *installation) before(t testing.TB) Snapshot {
	t.Helper()
	return in.mustTake(
		t,
		TakeOptions{Kind: PreRestore, Tolerant: true, Full: true, Chroma: chroma.Options{Method: chroma.MethodCold}},
	)
}

// sameBytes fails unless two files are equal, or both missing.
func sameBytes(t testing.TB, a, b string) {
	t.Helper()
	dataA, errA := os.ReadFile(a)
	dataB, errB := os.ReadFile(b)
	if os.IsNotExist(errA) != os.IsNotExist(errB) || string(dataA) != string(dataB) {
		t.Errorf("%s and %s differ: %d and %d bytes, %v, %v", a, b, len(dataA), len(dataB), errA, errB)
	}
}

// crash leaves a database as an application that was killed does: with commits
// that are only in the -wal.
func crash(t testing.TB, in *installation) {
	t.Helper()
	w := start(t, "write", job{Sources: in.src})
	for range 20 {
		w.Line()
	}
	w.Kill()
	if info, err := os.Stat(in.src.DB + "-wal"); err != nil || info.Size() == 0 {
		t.Fatalf("no -wal: %v", err)
	}
}

// What is broken or missing is saved as it is, and the snapshot says so: when it
// is taken, when it is listed, and whenever it is validated again.
func TestTakeBeforeARestore(t *testing.T) {
	type test struct {
		harm func(t *testing.T, in *installation)
		want string
		raw  bool // the database is kept byte for byte
	}
	for name, test := range map[string]test{
		"sound": {func(t *testing.T, in *installation) {}, "", false},
		"sound after a crash": {func(t *testing.T, in *installation) {
			crash(t, in)
		}, "", false},
		"rotten page, commits in the -wal": {func(t *testing.T, in *installation) {
			crash(t, in)
			rotDB(t, in.src.DB)
		}, "db_integrity_check_failed", true},
		"overwritten, commits in the -wal": {func(t *testing.T, in *installation) {
			crash(t, in)
			edit(t, in.src.DB, overwrite(0, "not a database"))
		}, "db_integrity_check_failed", true},
		"empty": {
			func(t *testing.T, in *installation) { must(t, os.Truncate(in.src.DB, 0)) },
			"db_integrity_check_failed",
			true,
		},
		"table missing": {
			func(t *testing.T, in *installation) { in.src.RequiredTables = []string{"notes"} },
			"db_required_table_missing",
			true,
		},
		"database missing": {
			func(t *testing.T, in *installation) { must(t, os.Remove(in.src.DB)) },
			"db_snapshot_missing",
			true,
		},
		"database and its directory missing": {func(t *testing.T, in *installation) {
			must(t, os.RemoveAll(filepath.Dir(in.src.DB)))
		}, "db_snapshot_missing", true},
		"overwritten behind a link": {func(t *testing.T, in *installation) {
			edit(t, in.src.DB, overwrite(0, "not a database"))
			real := in.src.DB + ".real"
			must(t, os.Rename(in.src.DB, real))
			must(t, os.WriteFile(real+"-wal", []byte("wal"), 0o600))
			must(t, os.Symlink(real, in.src.DB))
		}, "db_integrity_check_failed", false},
		"registry broken": {func(t *testing.T, in *installation) {
			must(t, os.WriteFile(in.src.Registry, []byte("{"), 0o600))
		}, "registry_invalid_json", false},
		"registry missing": {func(t *testing.T, in *installation) { must(t, os.Remove(in.src.Registry)) }, "", false},
		"registry is a directory": {func(t *testing.T, in *installation) {
			must(t, os.Remove(in.src.Registry))
			must(t, os.Mkdir(in.src.Registry, 0o700))
		}, "registry_invalid_json", false},
		"chroma corrupt": {func(t *testing.T, in *installation) {
			edit(t, filepath.Join(in.src.Chroma, "chroma.sqlite3"), overwrite(4096, strings.Repeat("rotten", 1000)))
		}, "chroma_db_integrity_check_failed", false},
		"chroma missing": {
			func(t *testing.T, in *installation) { must(t, os.RemoveAll(in.src.Chroma)) },
			"chroma_snapshot_missing",
			false,
		},
		"chroma is a file": {func(t *testing.T, in *installation) {
			must(t, os.RemoveAll(in.src.Chroma))
			must(t, os.WriteFile(in.src.Chroma, nil, 0o600))
		}, "chroma_snapshot_missing", false},
		"everything missing": {func(t *testing.T, in *installation) {
			must(t, os.RemoveAll(filepath.Join(in.dir, "data")))
			must(t, os.RemoveAll(filepath.Join(in.dir, "config")))
		}, "db_snapshot_missing chroma_snapshot_missing", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := installFull(t)
			test.harm(t, in)
			live := in.liveState(t)
			wal, _ := os.ReadFile(in.src.DB + "-wal")
			snap := in.before(t)
			if now := in.liveState(t); now != live {
				t.Errorf("the live store was\n%s\nis\n%s", live, now)
			}
			if got := codes(snap.Errors); got != test.want || snap.IsValid() != (test.want == "") ||
				snap.Kind != PreRestore {
				t.Errorf("%q, want %q: %+v", got, test.want, snap.Errors)
			}
			if test.raw {
				for _, suffix := range []string{"", "-wal"} {
					sameBytes(t, in.src.DB+suffix, filepath.Join(snap.Path, DBFile+suffix))
				}
				if len(wal) > 0 && snap.Manifest.Artifacts[DB].Method != "raw" {
					t.Errorf("%+v", snap.Manifest.Artifacts[DB])
				}
			}
			if name == "overwritten behind a link" {
				sameBytes(t, in.src.DB+".real", filepath.Join(snap.Path, DBFile))
				sameBytes(t, in.src.DB+".real-wal", filepath.Join(snap.Path, DBFile+"-wal"))
			}
			if a := snap.Manifest.Artifacts[DB]; a.Included != exists(filepath.Join(snap.Path, DBFile)) {
				t.Errorf("%+v", a)
			}
			if name == "registry broken" {
				sameBytes(t, in.src.Registry, filepath.Join(snap.Path, RegistryFile))
			}
			if name == "chroma corrupt" {
				sameBytes(
					t,
					filepath.Join(in.src.Chroma, "chroma.sqlite3"),
					filepath.Join(snap.Path, ChromaDir, "chroma.sqlite3"),
				)
				if a := snap.Manifest.Artifacts[Chroma]; !a.Included || a.Consistency != Unverified {
					t.Errorf("%+v", a)
				}
			}
			result := in.validate(t, snap.Stamp)
			if result.Valid != snap.IsValid() ||
				test.want != "" && !hasCode(result.Errors, strings.Fields(test.want)[0]) {
				t.Errorf("validated again: %q", result.Errors)
			}
			for _, code := range []string{"file_", "checksum_"} {
				if strings.Contains(strings.Join(result.Errors, "\n"), code) {
					t.Errorf("it is not whole: %q", result.Errors)
				}
			}
			if in.staged(t) != "" {
				t.Errorf("left %s", in.staged(t))
			}
		})
	}
}

// A full disk is no fault of the store: it ends a tolerant take too.
func TestTolerantOnlyTowardsTheStore(t *testing.T) {
	in := install(t)
	_, err := in.take(TakeOptions{Kind: PreRestore, Tolerant: true, MinFree: 1 << 60})
	wantError(t, err, failure.NoSpace, "min_free")
	must(t, os.Chmod(in.store.staging(), 0))
	defer os.Chmod(in.store.staging(), 0o700)
	if os.Geteuid() != 0 {
		_, err = in.take(TakeOptions{Kind: PreRestore, Tolerant: true})
		wantError(t, err, failure.Config, "permission denied")
	}
}
