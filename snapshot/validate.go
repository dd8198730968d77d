package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/atocore/atobackupd/snapshot/chroma"
	"github.com/atocore/atobackupd/snapshot/sqlite"
)

// Result is the judgement on one stored snapshot. Errors and Warnings begin
// with a stable code, a colon and words for people.
type Result struct {
	Stamp      string   `json:"stamp"`
	Path       string   `json:"path"`
	Exists     bool     `json:"exists"`
	Valid      bool     `json:"valid"`
	Errors     []string `json:"errors"`
	Warnings   []string `json:"warnings"`
	Checked    []string `json:"checked"`
	DurationMS int64    `json:"duration_ms"`
}

func newResult(stamp, path string) Result {
	return Result{Stamp: stamp, Path: path, Errors: []string{}, Warnings: []string{}, Checked: []string{}}
}

func (r *Result) fail(code, format string, args ...any) {
	r.Errors = append(r.Errors, finding(code, fmt.Sprintf(format, args...)))
}

func (r *Result) warn(code, format string, args ...any) {
	r.Warnings = append(r.Warnings, finding(code, fmt.Sprintf(format, args...)))
}

func finding(code, text string) string {
	if text == "" {
		return code
	}
	return code + ": " + text
}

// ValidateOptions says what the configuration asks of every snapshot.
type ValidateOptions struct {
	RequiredTables []string
	Progress       func(step string, bytes int64) // may be nil; called from several goroutines
}

// Validate re-reads everything of a published snapshot from disk and judges it.
// Nothing is written, not even beside the database. The error is for what kept
// it from judging, such as a cancelled context; a bad snapshot is a Result.
func (s *Store) Validate(ctx context.Context, stamp Stamp, o ValidateOptions) (Result, error) {
	return ValidateDir(ctx, s.Path(stamp), string(stamp), o)
}

// ValidateDir is Validate for a snapshot directory anywhere, such as one that
// was fetched from a vault.
func ValidateDir(ctx context.Context, dir, stamp string, o ValidateOptions) (result Result, err error) {
	start := time.Now()
	result = newResult(stamp, dir)
	defer func() {
		result.DurationMS = time.Since(start).Milliseconds()
		result.Valid = err == nil && len(result.Errors) == 0 && len(result.Checked) > 0
	}()
	if info, err := os.Lstat(dir); err != nil || !info.IsDir() {
		result.fail("snapshot_missing", "there is no directory %s", dir)
		return result, nil
	}
	result.Exists = true
	manifest, content := readDocuments(dir, &result)
	if manifest != nil && manifest.Stamp != Stamp(stamp) {
		result.fail("metadata_invalid_json", "%s is the manifest of %s", ManifestFile, manifest.Stamp)
	}
	sourceWasClean := manifest != nil && !hasCode(manifest.Validation.Warnings, "db_foreign_key_check_failed")
	if err := checkContent(ctx, dir, content, sourceWasClean, o, &result); err != nil {
		return result, err
	}
	if manifest != nil {
		return result, checkFiles(ctx, dir, manifest, o, &result)
	}
	return result, nil
}

func hasCode(findings []string, code string) bool {
	for _, f := range findings {
		if f == code || strings.HasPrefix(f, code+":") {
			return true
		}
	}
	return false
}

// Content says which artifacts a snapshot directory holds, and where in it.
// Paths are relative, with the system's separator.
type Content struct {
	DB, Registry, Chroma                      string
	DBIncluded, RegistryIncluded, ChromaKnown bool
	ChromaIncluded                            bool
	ChromaVerifiable                          bool // false: it was stored as unverified
}

// ContentOf says what a snapshot directory holds, by our manifest when it has
// one, else by AtoCore's metadata, else by what lies there.
func ContentOf(dir string, manifest *Manifest, metadata *Metadata) Content {
	c := Content{
		DB: filepath.FromSlash(DBFile), Registry: filepath.FromSlash(RegistryFile), Chroma: ChromaDir,
		DBIncluded: true, ChromaVerifiable: true,
	}
	if manifest != nil {
		c.DBIncluded = manifest.Artifacts[DB].Included
		c.RegistryIncluded = manifest.Artifacts[Registry].Included
		c.ChromaIncluded = manifest.Artifacts[Chroma].Included
		c.ChromaVerifiable = manifest.Artifacts[Chroma].Consistency != Unverified
	}
	if manifest == nil || manifest.Kind == Adopted {
		// AtoCore names its copies after the live files.
		if metadata == nil {
			metadata = &Metadata{}
		}
		c.DB = storedAs(dir, "db", metadata.DBSnapshotPath, c.DB)
		c.Registry = storedAs(dir, "config", metadata.RegistrySnapshotPath, c.Registry)
		if manifest == nil {
			c.RegistryIncluded = included(metadata.RegistrySnapshotPath, filepath.Join(dir, c.Registry))
			c.ChromaIncluded = exists(filepath.Join(dir, c.Chroma))
			if metadata.ChromaSnapshotIncluded != nil {
				c.ChromaIncluded = *metadata.ChromaSnapshotIncluded
			}
		}
	}
	return c
}

// storedAs gives where AtoCore put an artifact: the last element of the path
// that it recorded (the rest is a path inside its container), in its own
// subdirectory.
func storedAs(dir, sub string, recorded *string, otherwise string) string {
	if recorded == nil || *recorded == "" {
		return otherwise
	}
	name := filepath.Join(sub, filepath.Base(filepath.Clean(*recorded)))
	if !exists(filepath.Join(dir, name)) && exists(filepath.Join(dir, otherwise)) {
		return otherwise
	}
	return name
}

func included(recorded *string, path string) bool {
	if recorded == nil {
		return exists(path)
	}
	return *recorded != ""
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func readDocuments(dir string, result *Result) (*Manifest, Content) {
	manifest, err := ReadManifest(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		result.fail("metadata_invalid_json", "%s: %v", ManifestFile, err)
	}
	metadata, err := ReadMetadata(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && manifest == nil:
		result.fail("metadata_missing", "there is neither %s nor %s: it was never finished", MetadataFile, ManifestFile)
	case errors.Is(err, fs.ErrNotExist):
		result.fail("metadata_missing", "%s", MetadataFile)
	case err != nil:
		result.fail("metadata_invalid_json", "%s: %v", MetadataFile, err)
	}
	if manifest != nil || metadata != nil {
		result.Checked = append(result.Checked, "metadata")
	}
	return manifest, ContentOf(dir, manifest, metadata)
}

// checkContent judges the artifacts themselves, with no need of a manifest.
func checkContent(ctx context.Context, dir string, c Content, sourceWasClean bool, o ValidateOptions, result *Result) error {
	step := func(name string) {
		if o.Progress != nil {
			o.Progress(name, 0)
		}
	}
	step("database")
	if err := checkDB(ctx, filepath.Join(dir, c.DB), sourceWasClean, o, result); err != nil {
		return err
	}
	step("registry")
	checkRegistry(filepath.Join(dir, c.Registry), c.RegistryIncluded, result)
	if c.ChromaIncluded {
		step("chroma")
		return checkChroma(ctx, filepath.Join(dir, c.Chroma), c.ChromaVerifiable, result)
	}
	return nil
}

func checkDB(ctx context.Context, path string, sourceWasClean bool, o ValidateOptions, result *Result) error {
	if info, err := os.Lstat(path); err != nil {
		result.fail("db_snapshot_missing", "%s", filepath.Base(path))
		return nil
	} else if !info.Mode().IsRegular() {
		result.fail("db_not_sqlite", "%s is not a regular file", filepath.Base(path))
		return nil
	}
	bad, warnings, err := sqlite.Check(ctx, path, sqlite.CheckOptions{RequiredTables: o.RequiredTables})
	if err != nil {
		return err
	}
	for _, f := range bad {
		if f.Code == "db_foreign_key_check_failed" && !sourceWasClean {
			result.warn(f.Code, "%s", f.Text)
			continue
		}
		result.fail(f.Code, "%s", f.Text)
	}
	for _, f := range warnings {
		result.warn(f.Code, "%s", f.Text)
	}
	result.Checked = append(result.Checked, "db")
	return nil
}

func checkRegistry(path string, included bool, result *Result) {
	if !included {
		return
	}
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxJSON {
		result.fail("registry_missing", "%s", filepath.Base(path))
		return
	}
	data, err := os.ReadFile(path)
	if err == nil {
		err = checkJSON(data)
	}
	if err != nil {
		result.fail("registry_invalid_json", "%v", err)
	}
	result.Checked = append(result.Checked, "registry")
}

func checkChroma(ctx context.Context, dir string, verifiable bool, result *Result) error {
	if info, err := os.Lstat(dir); err != nil || !info.IsDir() {
		result.fail("chroma_snapshot_missing", "there is no directory %s", ChromaDir)
		return nil
	}
	report, err := chroma.Validate(ctx, dir)
	if err != nil {
		return err
	}
	for _, f := range report.Errors {
		result.fail(f.Code, "%s", f.Text)
	}
	for _, f := range report.Warnings {
		result.warn(f.Code, "%s", f.Text)
	}
	if report.Consistency == Unverified || !verifiable {
		result.warn("chroma_unverified", "the format of the Chroma directory is not known to this program; only its bytes were checked")
	}
	result.Checked = append(result.Checked, "chroma")
	return nil
}

// checkFiles compares every file with the manifest: none missing, none too
// many, none changed.
func checkFiles(ctx context.Context, dir string, m *Manifest, o ValidateOptions, result *Result) error {
	found, err := scan(dir)
	if err != nil {
		return err
	}
	onDisk := make(map[string]File, len(found))
	for _, f := range found {
		onDisk[f.Path] = f
	}
	var compare []File // what can be compared by digest
	want := make(map[string]string)
	for _, f := range m.Files {
		disk, ok := onDisk[f.Path]
		delete(onDisk, f.Path)
		switch {
		case !ok:
			result.fail("file_missing", "%s", f.Path)
		case disk.Type != f.Type:
			result.fail("file_missing", "%s is now a %s, not a %s", f.Path, disk.Type, f.Type)
		case f.Type == TypeSymlink && disk.Target != f.Target:
			result.fail("checksum_mismatch", "%s points to %q, not %q", f.Path, disk.Target, f.Target)
		case f.Type == TypeFile && disk.Size != f.Size:
			result.fail("file_size_mismatch", "%s has %d bytes, not %d", f.Path, disk.Size, f.Size)
		case f.Type == TypeFile:
			compare = append(compare, disk)
			want[f.Path] = f.SHA256
		}
	}
	for _, f := range found {
		if _, left := onDisk[f.Path]; left && !isSidecar(f.Path) {
			result.fail("file_unexpected", "%s", f.Path)
		}
	}
	var mu sync.Mutex
	unreadable := make(map[string]error) // a rotten block is EIO: a finding, not the end
	err = digest(ctx, dir, compare, func(bytes int64) {
		if o.Progress != nil {
			o.Progress("checksums", bytes)
		}
	}, func(f File, err error) {
		mu.Lock()
		defer mu.Unlock()
		unreadable[f.Path] = err
	})
	if err != nil {
		return err
	}
	for _, f := range compare {
		if err := unreadable[f.Path]; err != nil {
			result.fail("checksum_mismatch", "%s cannot be read: %v", f.Path, err)
		} else if f.SHA256 != want[f.Path] {
			result.fail("checksum_mismatch", "%s", f.Path)
		}
	}
	result.Checked = append(result.Checked, "checksums")
	return nil
}

// isSidecar tells the files that have a code of their own.
func isSidecar(name string) bool {
	for _, suffix := range []string{"-wal", "-shm", "-journal"} {
		if name == DBFile+suffix {
			return true
		}
	}
	return false
}
