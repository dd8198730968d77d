package snapshot

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/forktest"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
)

// rewrite changes a snapshot's manifest.
func rewrite(t testing.TB, dir string, change func(m *Manifest)) {
	t.Helper()
	m, err := ReadManifest(dir)
	must(t, err)
	change(m)
	data, err := json.Marshal(m)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, ManifestFile), data, 0o640))
}

// agree makes the manifest say what lies there, so that only the content speaks.
func agree(t testing.TB, dir string) {
	t.Helper()
	files, err := scan(dir, ".")
	must(t, err)
	must(t, digest(context.Background(), dir, files, nil, nil))
	rewrite(t, dir, func(m *Manifest) { m.Files = files })
}

func chromaFile(t testing.TB, dir, name string) string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, ChromaDir, "*", name))
	if err != nil || len(paths) == 0 {
		t.Fatal(name, err)
	}
	return paths[0]
}

// Each way to damage a snapshot gives exactly the codes that it must, and
// looking changes nothing.
func TestValidateFindsDamage(t *testing.T) {
	in := installFull(t)
	taken := in.mustTake(t, TakeOptions{Full: true})
	at := func(dir, name string) string { return filepath.Join(dir, name) }
	atChromaDB := func(dir string) string { return at(dir, "chroma/chroma.sqlite3") }
	for _, test := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		want   string
		words  string
	}{
		{"none", func(t *testing.T, dir string) {}, "", ""},
		{"gone", func(t *testing.T, dir string) { must(t, os.RemoveAll(dir)) }, "snapshot_missing", ""},
		{"a file in its place", func(t *testing.T, dir string) {
			must(t, os.RemoveAll(dir))
			must(t, os.WriteFile(dir, nil, 0o600))
		}, "snapshot_missing", ""},
		{"no documents", func(t *testing.T, dir string) {
			must(t, os.Remove(at(dir, MetadataFile)))
			must(t, os.Remove(at(dir, ManifestFile)))
		}, "metadata_missing", "it was never finished"},
		{
			"no metadata",
			func(t *testing.T, dir string) { must(t, os.Remove(at(dir, MetadataFile))) },
			"metadata_missing file_missing",
			"",
		},
		{"metadata is a list", func(t *testing.T, dir string) {
			must(t, os.WriteFile(at(dir, MetadataFile), []byte("[]"), 0o600))
			agree(t, dir)
		}, "metadata_invalid_json", "not a JSON object but a array"},
		{"metadata cut", func(t *testing.T, dir string) {
			must(t, os.Truncate(at(dir, MetadataFile), 100))
			agree(t, dir)
		}, "metadata_invalid_json", "backup-metadata.json: unexpected end"},
		{
			"manifest cut",
			func(t *testing.T, dir string) { must(t, os.Truncate(at(dir, ManifestFile), 100)) },
			"metadata_invalid_json",
			ManifestFile,
		},
		{
			"manifest empty",
			func(t *testing.T, dir string) { must(t, os.Truncate(at(dir, ManifestFile), 0)) },
			"metadata_invalid_json",
			"",
		},
		{"manifest is a link", func(t *testing.T, dir string) {
			must(t, os.Rename(at(dir, ManifestFile), dir+".json"))
			must(t, os.Symlink(dir+".json", at(dir, ManifestFile)))
		}, "metadata_invalid_json", "is a symbolic link"},
		{"manifest is a FIFO", func(t *testing.T, dir string) {
			must(t, os.Remove(at(dir, ManifestFile)))
			must(t, syscall.Mkfifo(at(dir, ManifestFile), 0o600))
		}, "metadata_invalid_json", "is not a regular file"},
		{"manifest of another", func(t *testing.T, dir string) {
			rewrite(t, dir, func(m *Manifest) { m.Stamp = "20200101T000000Z" })
		}, "metadata_invalid_json", "the manifest of 20200101T000000Z"},
		{"newer schema", func(t *testing.T, dir string) {
			must(t, os.WriteFile(at(dir, ManifestFile), []byte(`{"schema": 2, "files": "elsewhere"}`), 0o600))
		}, "metadata_invalid_json", "schema 2, this program knows 1: use a newer atobackupd"},
		{"no schema", func(t *testing.T, dir string) {
			must(t, os.WriteFile(at(dir, ManifestFile), []byte(`{}`), 0o600))
		}, "metadata_invalid_json", "schema 0, which never was one"},

		{
			"no database",
			func(t *testing.T, dir string) { must(t, os.Remove(at(dir, DBFile))) },
			"db_snapshot_missing file_missing",
			"no such file",
		},
		{"database is a directory", func(t *testing.T, dir string) {
			must(t, os.Remove(at(dir, DBFile)))
			must(t, os.Mkdir(at(dir, DBFile), 0o700))
		}, "db_not_sqlite file_missing", "is not a regular file"},
		{"database is a FIFO", func(t *testing.T, dir string) {
			must(t, os.Remove(at(dir, DBFile)))
			must(t, syscall.Mkfifo(at(dir, DBFile), 0o600))
		}, "db_not_sqlite file_missing", "is now a special file, not a file"},
		{"database is a link", func(t *testing.T, dir string) {
			must(t, os.Rename(at(dir, DBFile), dir+".db"))
			must(t, os.Symlink(dir+".db", at(dir, DBFile)))
		}, "db_not_sqlite file_missing", "is now a symlink"},
		{"db leads outside", func(t *testing.T, dir string) {
			must(t, os.Rename(at(dir, "db"), dir+".dir"))
			must(t, os.Symlink(dir+".dir", at(dir, "db")))
		}, "db_snapshot_missing file_missing", "not a directory"},
		{
			"not SQLite",
			func(t *testing.T, dir string) { edit(t, at(dir, DBFile), overwrite(0, "PK")) },
			"db_not_sqlite checksum_mismatch",
			"",
		},
		{
			"rotten page",
			func(t *testing.T, dir string) { rotDB(t, at(dir, DBFile)) },
			"db_integrity_check_failed checksum_mismatch",
			"db/atocore.db: ",
		},
		{"a -wal beside it", func(t *testing.T, dir string) {
			must(t, os.WriteFile(at(dir, DBFile+"-wal"), []byte("x"), 0o600))
		}, "db_sidecar_present", "db/atocore.db-wal"},
		{"an empty -wal and a reader's marks beside it, and beside Chroma's", func(t *testing.T, dir string) {
			for _, db := range []string{DBFile, "chroma/chroma.sqlite3"} {
				must(t, os.WriteFile(at(dir, db+"-wal"), nil, 0o600))
				must(t, os.WriteFile(at(dir, db+"-shm"), make([]byte, 32768), 0o600))
			}
		}, "", ""},
		{"foreign key", func(t *testing.T, dir string) {
			execDB(
				t,
				at(dir, DBFile),
				"PRAGMA journal_mode = DELETE",
				"PRAGMA foreign_keys = OFF",
				"DELETE FROM source_documents WHERE id = 2",
			)
			agree(t, dir)
		}, "db_foreign_key_check_failed", "2 violations, the first: row 2 of memories"},
		{"table gone", func(t *testing.T, dir string) {
			execDB(t, at(dir, DBFile), "PRAGMA journal_mode = DELETE", "DROP TABLE memories")
			agree(t, dir)
		}, "db_required_table_missing", "no table memories"},

		{
			"no registry",
			func(t *testing.T, dir string) { must(t, os.Remove(at(dir, RegistryFile))) },
			"registry_missing file_missing",
			"",
		},
		{"registry is a directory", func(t *testing.T, dir string) {
			must(t, os.Remove(at(dir, RegistryFile)))
			must(t, os.Mkdir(at(dir, RegistryFile), 0o700))
		}, "registry_missing file_missing", "is not a regular file"},
		{"registry broken", func(t *testing.T, dir string) {
			must(t, os.WriteFile(at(dir, RegistryFile), []byte("{\n\n\"a\": }"), 0o600))
			agree(t, dir)
		}, "registry_invalid_json", "config/project-registry.json: line 3: invalid character"},

		{
			"no chroma",
			func(t *testing.T, dir string) { must(t, os.RemoveAll(at(dir, ChromaDir))) },
			"chroma_snapshot_missing file_missing",
			"",
		},
		{"chroma is a link", func(t *testing.T, dir string) {
			must(t, os.Rename(at(dir, ChromaDir), dir+".chroma"))
			must(t, os.Symlink(dir+".chroma", at(dir, ChromaDir)))
		}, "chroma_snapshot_missing file_missing", "chroma is not a directory"},
		{"chroma.sqlite3 rotten", func(t *testing.T, dir string) {
			edit(t, atChromaDB(dir), overwrite(4096, strings.Repeat("rotten", 1000)))
			agree(t, dir)
		}, "chroma_db_integrity_check_failed", ""},
		{"segment file missing", func(t *testing.T, dir string) {
			must(t, os.Remove(chromaFile(t, dir, "length.bin")))
			agree(t, dir)
		}, "chroma_segment_missing", "length.bin"},
		{"segment torn", func(t *testing.T, dir string) {
			edit(t, chromaFile(t, dir, "header.bin"), overwrite(20, "\xff\xff"))
			agree(t, dir)
		}, "chroma_segment_corrupt", ""},
		{"log cut", func(t *testing.T, dir string) {
			execDB(
				t,
				atChromaDB(dir),
				"DELETE FROM embeddings_queue WHERE seq_id = (SELECT max(seq_id) - 3 FROM embeddings_queue)",
			)
			agree(t, dir)
		}, "chroma_log_gap chroma_ids_differ", ""},
		{"records lost", func(t *testing.T, dir string) {
			execDB(t, atChromaDB(dir), "DELETE FROM embeddings WHERE id = (SELECT min(id) FROM embeddings)")
			agree(t, dir)
		}, "chroma_ids_differ", ""},

		{"one file too many", func(t *testing.T, dir string) {
			must(t, os.WriteFile(at(dir, "chroma/extra"), nil, 0o600))
		}, "file_unexpected", "chroma/extra"},
		{
			"a directory too many",
			func(t *testing.T, dir string) { must(t, os.Mkdir(at(dir, "extra"), 0o700)) },
			"file_unexpected",
			"extra",
		},
		{"grown", func(t *testing.T, dir string) {
			edit(t, at(dir, RegistryFile), func(b []byte) []byte { return append(b, '\n') })
		}, "file_size_mismatch", "config/project-registry.json has 46 bytes, not 45"},
		{"a bit flipped", func(t *testing.T, dir string) {
			edit(t, at(dir, RegistryFile), func(b []byte) []byte { b[2] ^= 1; return b })
		}, "checksum_mismatch", "config/project-registry.json"},

		{"hostile paths", func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(filepath.Dir(dir), "secret"), nil, 0o600))
			rewrite(t, dir, func(m *Manifest) {
				m.Files = append(
					m.Files,
					File{Path: "../secret", Type: TypeFile},
					File{Path: "/etc/passwd", Type: TypeFile},
					m.Files[0],
				)
			})
		}, "file_missing", "../secret"},
		{"a FIFO that the manifest allows", func(t *testing.T, dir string) {
			must(t, syscall.Mkfifo(at(dir, "fifo"), 0o600))
			rewrite(t, dir, func(m *Manifest) { m.Files = append(m.Files, File{Path: "fifo", Type: typeOther}) })
		}, "file_unexpected", "neither a file, a directory nor a symbolic link"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), string(taken.Stamp))
			must(t, os.CopyFS(dir, os.DirFS(taken.Path)))
			test.damage(t, dir)
			var before string
			if exists(dir) && test.want != "snapshot_missing" {
				before = fsxtest.State(t, filepath.Dir(dir))
			}
			result, err := ValidateDir(
				context.Background(),
				dir,
				string(taken.Stamp),
				ValidateOptions{RequiredTables: []string{"memories"}},
			)
			if err != nil {
				t.Fatal(err)
			}
			if got := codes(result.Errors); got != test.want {
				t.Errorf("%q, want %q: %q", got, test.want, result.Errors)
			}
			if result.Valid != (test.want == "") || !strings.Contains(strings.Join(result.Errors, "\n"), test.words) {
				t.Errorf("%+v does not say %q", result, test.words)
			}
			if before != "" && fsxtest.State(t, filepath.Dir(dir)) != before {
				t.Error("looking at it changed it")
			}
			if result.Valid && strings.Join(result.Checked, " ") != "metadata db registry chroma checksums" {
				t.Errorf("checked %q", result.Checked)
			}
			if result.Stamp != string(taken.Stamp) || result.Path != dir ||
				result.Exists != (test.want != "snapshot_missing") {
				t.Errorf("%+v", result)
			}
		})
	}
}

// A Chroma directory that this program does not recognise is never called valid in
// silence, and one that is damaged is called that.
func TestValidateUnrecognisedChroma(t *testing.T) {
	in := installFull(t)
	taken := in.mustTake(t, TakeOptions{Full: true})
	validate := func() Result {
		t.Helper()
		agree(t, taken.Path)
		result, err := in.store.Validate(t.Context(), taken.Stamp, ValidateOptions{})
		must(t, err)
		return result
	}
	if known := validate(); len(known.Warnings) != 0 || !known.Valid {
		t.Errorf("%q, %q", known.Errors, known.Warnings)
	}
	must(t, os.Remove(filepath.Join(taken.Path, ChromaDir, "chroma.sqlite3")))
	strange := validate()
	if !hasCode(strange.Warnings, codeUnverified) || !strange.Valid || strange.Proven() != nil {
		t.Errorf("%q, %q", strange.Errors, strange.Warnings)
	}
}

// What cannot be read is a finding like rot, and the rest is judged all the
// same: as when the disk does not give back a sector.
func TestValidateUnreadable(t *testing.T) {
	for path, want := range map[string]string{
		DBFile:          "db_integrity_check_failed checksum_mismatch",
		RegistryFile:    "registry_invalid_json checksum_mismatch",
		MetadataFile:    "metadata_invalid_json checksum_mismatch",
		ManifestFile:    "metadata_invalid_json",
		ChromaDir:       "chroma_segment_corrupt file_missing",
		"config":        "registry_missing file_missing",
		"chroma/*/h*":   "chroma_segment_corrupt checksum_mismatch",
		"chroma/*.sql*": "chroma_segment_corrupt checksum_mismatch",
	} {
		t.Run(strings.ReplaceAll(path, "/", " "), func(t *testing.T) {
			t.Parallel()
			in := installFull(t)
			taken := in.mustTake(t, TakeOptions{Full: true})
			paths, err := filepath.Glob(filepath.Join(taken.Path, path))
			if err != nil || len(paths) == 0 {
				t.Fatal(path, err)
			}
			must(t, os.Chmod(paths[0], 0))
			cmd := forktest.Command("validate", job{Store: in.store.Dir(), Stamp: taken.Stamp})
			if os.Geteuid() == 0 {
				must(t, os.Chmod(filepath.Dir(in.dir), 0o755))
				must(
					t,
					filepath.WalkDir(
						in.store.Dir(),
						func(p string, _ os.DirEntry, _ error) error { return os.Lchown(p, 65534, 65534) },
					),
				)
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			}
			out, err := cmd.CombinedOutput()
			must(t, err)
			if string(out) != want+"\n" {
				t.Errorf("%s, want %s", out, want)
			}
			_ = os.Chmod(paths[0], 0o755)
		})
	}
}

func TestEmptyDirectoryIsNotValid(t *testing.T) {
	result, err := ValidateDir(context.Background(), t.TempDir(), "20260407T060000Z", ValidateOptions{})
	if err != nil || result.Valid || len(result.Checked) != 0 || !hasCode(result.Errors, "metadata_missing") {
		t.Errorf("%+v, %v", result, err)
	}
}

// A foreign key that was violated in the live database is told, and does not
// keep it from being backed up.
func TestForeignKeysThatTheSourceViolated(t *testing.T) {
	in := install(t)
	execDB(t, in.src.DB, "PRAGMA foreign_keys = OFF", "DELETE FROM source_documents WHERE id = 1")
	snap := in.mustTake(t, TakeOptions{})
	result := in.validate(t, snap.Stamp)
	for _, warnings := range [][]string{snap.Manifest.Validation.Warnings, result.Warnings} {
		if codes(warnings) != "db_foreign_key_check_failed" || strings.Contains(warnings[0], in.dir) {
			t.Errorf("%q", warnings)
		}
	}
	if !result.Valid {
		t.Errorf("%q", result.Errors)
	}
}

func TestValidateCancelled(t *testing.T) {
	in := installFull(t)
	snap := in.mustTake(t, TakeOptions{Full: true})
	for _, step := range []string{"database", "registry", "chroma", "checksums"} {
		ctx, cancel := context.WithCancel(context.Background())
		result, err := in.store.Validate(ctx, snap.Stamp, ValidateOptions{Progress: func(s string, _, _ int64) {
			if s == step {
				cancel()
			}
		}})
		cancel()
		// The last checksum may be done already.
		if result.Valid && step != "checksums" || err == nil && step != "checksums" && step != "registry" ||
			err != nil && failure.KindOf(err) != failure.Interrupted {
			t.Errorf("%s: %+v, %v", step, result, err)
		}
	}
}
