package snapshot

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
)

// unpackArchive has the real tar lay an archive out.
func unpackArchive(t *testing.T, archive []byte) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("tar", "-x", "-p", "-C", dir)
	cmd.Stdin = bytes.NewReader(archive)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	return dir
}

func archiveOf(snap Snapshot) ([]byte, int, int64, error) {
	var out bytes.Buffer
	files, bytes, err := snap.Archive(context.Background(), &out, nil)
	return out.Bytes(), files, bytes, err
}

// What tar lays out is a valid snapshot, with the modes and times of the live
// files, whatever those of the stored copies are.
func TestArchiveIsReadByTar(t *testing.T) {
	in := installFull(t)
	must(t, os.Chmod(in.src.Registry, 0o640))
	must(t, os.Chmod(in.src.DB, 0o604))
	moment := time.Date(2026, 4, 7, 6, 0, 0, 123456789, time.UTC)
	must(t, os.Chtimes(in.src.Registry, moment, moment))
	must(t, os.Symlink("chroma.sqlite3", filepath.Join(in.src.Chroma, "a link")))
	snap := in.mustTake(t, TakeOptions{Full: true})
	archive, files, size, err := archiveOf(snap)
	must(t, err)
	if size != snap.Bytes || files < 8 {
		t.Errorf("%d files of %d bytes, the snapshot has %d bytes", files, size, snap.Bytes)
	}
	dir := filepath.Join(unpackArchive(t, archive), string(snap.Stamp))
	result, err := ValidateDir(context.Background(), dir, string(snap.Stamp), ValidateOptions{})
	must(t, err)
	if !result.Valid || len(result.Checked) == 0 {
		t.Errorf("what tar laid out: %+v", result)
	}
	for _, f := range append([]File{}, snap.Manifest.Files...) {
		if f.Path == MetadataFile {
			continue
		}
		got, err := describe(filepath.Join(dir, f.Path), f.Path)
		must(t, err)
		f.SHA256 = ""
		if f.Type == TypeSymlink {
			f.Mode = got.Mode
		}
		if !got.MTime.Equal(f.MTime) {
			t.Errorf("%s: changed %s, want %s", f.Path, got.MTime, f.MTime)
		}
		got.MTime = f.MTime
		if got != f {
			t.Errorf("tar made %+v of %+v", got, f)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, DBFile)); err != nil || info.Mode().Perm() != 0o604 {
		t.Errorf("the database: %v %v", info, err)
	}
}

// Rot is found while it is read, and the archive then has no end.
func TestArchiveNoticesRot(t *testing.T) {
	in := install(t)
	for name, c := range map[string]struct {
		harm func(path string)
		code string
	}{
		"other bytes": {func(path string) { edit(t, path, overwrite(5000, "rot")) }, "checksum_mismatch: " + DBFile},
		"shorter":     {func(path string) { must(t, os.Truncate(path, 4096)) }, "file_size_mismatch"},
		"longer": {
			func(path string) { edit(t, path, func(b []byte) []byte { return append(b, 0) }) },
			"file_size_mismatch",
		},
		"gone": {func(path string) { must(t, os.Remove(path)) }, "file_missing"},
	} {
		t.Run(name, func(t *testing.T) {
			snap := in.mustTake(t, TakeOptions{})
			c.harm(filepath.Join(snap.Path, DBFile))
			archive, _, _, err := archiveOf(snap)
			wantError(t, err, failure.Invalid, c.code, "atobackupd validate "+string(snap.Stamp))
			for r := tar.NewReader(bytes.NewReader(archive)); err == nil; {
				if _, err = r.Next(); errors.Is(err, io.EOF) {
					t.Error("the archive looks whole")
				}
			}
		})
	}
}

// A manifest that was tampered with leads nowhere else, neither when it is read
// nor for the tar that reads the archive.
func TestArchiveStaysInside(t *testing.T) {
	in := install(t)
	snap := in.mustTake(t, TakeOptions{})
	secret := filepath.Join(in.dir, "secret")
	must(t, os.WriteFile(secret, []byte("secret"), 0o600))
	snap.Manifest.Files = append(snap.Manifest.Files, File{Path: "../../../secret", Type: TypeFile, Size: 6})
	_, _, _, err := archiveOf(snap)
	wantError(t, err, failure.Invalid, "must not name")

	snap.Manifest.Files = []File{{Path: "link", Type: TypeFile, Size: 6}}
	must(t, os.Symlink(secret, filepath.Join(snap.Path, "link")))
	archive, _, _, err := archiveOf(snap)
	if err == nil || bytes.Contains(archive, []byte("secret")) {
		t.Errorf("a link that leads out was followed: %v", err)
	}
}

// What AtoCore's own tools made has no manifest, and is archived as it lies.
func TestArchiveOfAtoCores(t *testing.T) {
	in := install(t)
	snap := in.mustTake(t, TakeOptions{})
	must(t, os.Remove(filepath.Join(snap.Path, ManifestFile)))
	snap, err := in.store.Get(snap.Stamp)
	must(t, err)
	archive, files, _, err := archiveOf(snap)
	must(t, err)
	if files != 3 {
		t.Errorf("%d files", files)
	}
	dir := filepath.Join(unpackArchive(t, archive), string(snap.Stamp))
	result, err := ValidateDir(context.Background(), dir, string(snap.Stamp), ValidateOptions{})
	must(t, err)
	if !result.Valid {
		t.Errorf("%+v", result)
	}
}

func TestArchiveCanBeInterrupted(t *testing.T) {
	in := install(t)
	snap := in.mustTake(t, TakeOptions{})
	ctx, cancel := context.WithCancel(context.Background())
	_, _, err := snap.Archive(ctx, io.Discard, func(int64) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
