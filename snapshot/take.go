package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/snapshot/chroma"
	"github.com/atocore/atobackupd/snapshot/sqlite"
)

// Sources are the live artifacts. Registry and Chroma may be empty: then there
// is none.
type Sources struct {
	DB, Registry, Chroma string
	RequiredTables       []string
}

// TakeOptions says how a snapshot is taken.
type TakeOptions struct {
	Kind        Kind
	Full        bool   // with Chroma
	Host        string // recorded in the manifest
	ToolVersion string
	MinFree     int64 // bytes that must stay free
	Share       bool  // reflink from the source where the file system can

	ChromaMethod          string // "live" or "cold"
	ChromaOptimisticTries int
	ChromaLockDeadline    time.Duration

	// Tolerant is for the snapshot before a restore: what is corrupt or missing
	// is saved raw as it is, and the snapshot is published as invalid.
	Tolerant bool

	Progress func(step string, bytes int64) // may be nil
}

// dbBusyTimeout is how long a lock of the application is waited for, and
// dbCopyDeadline bounds a copy through SQLite.
const (
	dbBusyTimeout  = 30 * time.Second
	dbCopyDeadline = 30 * time.Minute
)

// Take makes one snapshot of the sources: staged, copied, digested, validated,
// made durable and published under the stamp of the second in which it began.
// It holds every transaction that was committed before Take was called. On any
// error nothing is published; a snapshot that fails its validation is moved to
// quarantine/ and the error is of kind Invalid. The caller holds the main lock.
func (s *Store) Take(ctx context.Context, src Sources, o TakeOptions) (Snapshot, error) {
	if err := s.preflight(ctx, src, o); err != nil {
		return Snapshot{}, err
	}
	t := &taking{store: s, src: src, o: o, started: time.Now().UTC()}
	stamp, err := s.freeStamp(ctx, t.started)
	if err != nil {
		return Snapshot{}, err
	}
	if t.dir, err = s.stage(stamp); err != nil {
		return Snapshot{}, err
	}
	// Whatever happens, nothing stays in staging. After a rename there is
	// nothing there to remove.
	defer os.RemoveAll(t.dir)
	if err := t.fill(ctx, stamp); err != nil {
		return Snapshot{}, takeFailure(stamp, err)
	}
	return t.publish(ctx, stamp)
}

func takeFailure(stamp Stamp, err error) error {
	var f *failure.Error
	if errors.As(err, &f) || errors.Is(err, context.Canceled) {
		return err
	}
	if isNoSpace(err) {
		return &failure.Error{Op: "backup", Subject: string(stamp), Kind: failure.NoSpace, Err: err, Hint: "free some space under backup.dir and take it again"}
	}
	return &failure.Error{Op: "backup", Subject: string(stamp), Err: err}
}

// freeStamp gives the stamp of now, or of the next second while one exists.
func (s *Store) freeStamp(ctx context.Context, now time.Time) (Stamp, error) {
	for {
		stamp := StampOf(now)
		taken := exists(s.Path(stamp)) || exists(filepath.Join(s.quarantine(), string(stamp)))
		if !taken {
			return stamp, nil
		}
		next := now.Truncate(time.Second).Add(time.Second)
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(time.Until(next)):
		}
		now = time.Now()
	}
}

func (s *Store) stage(stamp Stamp) (string, error) {
	dir, err := os.MkdirTemp(s.staging(), string(stamp)+".")
	if err != nil {
		return "", &failure.Error{Op: "backup", Subject: s.staging(), Err: err, Hint: "this process must be able to write under backup.dir"}
	}
	if err := os.Chmod(dir, 0o750); err != nil {
		return "", err
	}
	return dir, fsx.SyncDir(s.staging())
}

// taking is one run of Take.
type taking struct {
	store    *Store
	src      Sources
	o        TakeOptions
	started  time.Time
	dir      string // in staging/
	manifest *Manifest
	problems []string // what a tolerant take met
}

func (t *taking) progress(step string, bytes int64) {
	if t.o.Progress != nil {
		t.o.Progress(step, bytes)
	}
}

// fill copies the artifacts into the staging directory, validates them and
// completes the manifest.
func (t *taking) fill(ctx context.Context, stamp Stamp) error {
	t.manifest = &Manifest{
		Schema: Schema, Stamp: stamp, Kind: t.o.Kind, Host: t.o.Host, ToolVersion: t.o.ToolVersion,
		StartedAt: t.started, Artifacts: map[string]Artifact{}, Roots: map[string]Root{},
	}
	owners := make(map[string]File) // of the live files, by their path in the snapshot
	for _, copyOne := range []func(context.Context, map[string]File) error{t.copyDB, t.copyRegistry, t.copyChroma} {
		if err := copyOne(ctx, owners); err != nil {
			return err
		}
	}
	t.progress("checksums", 0)
	files, err := scan(t.dir)
	if err != nil {
		return err
	}
	if err := digest(ctx, t.dir, files, func(n int64) { t.progress("checksums", n) }, nil); err != nil {
		return err
	}
	for i, f := range files {
		if live, ok := owners[f.Path]; ok {
			files[i].Mode, files[i].UID, files[i].GID = live.Mode, live.UID, live.GID
		}
	}
	t.manifest.Files = files
	return t.validate(ctx)
}

// validate judges the copy. The digests were taken from these very bytes a
// moment ago, so only the content is checked.
func (t *taking) validate(ctx context.Context) error {
	start := time.Now()
	result := newResult(string(t.manifest.Stamp), t.dir)
	content := ContentOf(t.dir, t.manifest, nil)
	err := checkContent(ctx, t.dir, content, false, ValidateOptions{RequiredTables: t.src.RequiredTables, Progress: t.o.Progress}, &result)
	if err != nil {
		return err
	}
	result.Errors = append(result.Errors, t.problems...)
	t.manifest.Validation = Validation{
		Valid: len(result.Errors) == 0, Errors: result.Errors, Warnings: result.Warnings,
		CheckedAt: time.Now().UTC(), DurationMS: time.Since(start).Milliseconds(),
	}
	return nil
}

// publish writes both documents, makes everything durable and renames the
// snapshot into place, or into quarantine/ when it is not valid.
func (t *taking) publish(ctx context.Context, stamp Stamp) (Snapshot, error) {
	m := t.manifest
	valid := m.Validation.Valid
	for {
		m.Stamp, m.FinishedAt = stamp, time.Now().UTC()
		dest := t.store.Path(stamp)
		if err := t.writeDocuments(dest); err != nil {
			return Snapshot{}, takeFailure(stamp, err)
		}
		t.progress("fsync", 0)
		if err := fsx.SyncTree(t.dir); err != nil {
			return Snapshot{}, takeFailure(stamp, err)
		}
		if !valid && !t.o.Tolerant {
			return Snapshot{}, t.quarantine(stamp)
		}
		if err := ctx.Err(); err != nil {
			return Snapshot{}, err
		}
		err := fsx.RenameNoReplace(t.dir, dest)
		if err == nil {
			return t.store.Get(stamp)
		}
		if !errors.Is(err, fs.ErrExist) {
			return Snapshot{}, takeFailure(stamp, err)
		}
		// AtoCore itself took a snapshot in this very second.
		if stamp, err = t.store.freeStamp(ctx, stamp.Time().Add(time.Second)); err != nil {
			return Snapshot{}, err
		}
	}
}

func (t *taking) writeDocuments(dest string) error {
	m := t.manifest
	path := filepath.Join(t.dir, MetadataFile)
	if err := writeJSON(path, NewMetadata(m, dest)); err != nil {
		return err
	}
	entry, err := describe(path, MetadataFile)
	if err != nil {
		return err
	}
	entries := []File{entry}
	if err := digest(context.Background(), t.dir, entries, nil, nil); err != nil {
		return err
	}
	kept := entries
	for _, f := range m.Files {
		if f.Path != MetadataFile {
			kept = append(kept, f)
		}
	}
	m.Files = kept
	return writeJSON(filepath.Join(t.dir, ManifestFile), m)
}

func (t *taking) quarantine(stamp Stamp) error {
	dest := filepath.Join(t.store.quarantine(), string(stamp))
	if err := fsx.RenameNoReplace(t.dir, dest); err != nil {
		return takeFailure(stamp, err)
	}
	return &failure.Error{Op: "backup", Subject: string(stamp), Kind: failure.Invalid,
		Err:  fmt.Errorf("the copy did not validate: %s", strings.Join(t.manifest.Validation.Errors, "; ")),
		Hint: "it is kept in " + dest + " for a look; take another, and when that fails too suspect the source or the disk"}
}

func (t *taking) copyDB(ctx context.Context, owners map[string]File) error {
	t.progress("database", 0)
	artifact := Artifact{SourcePath: t.src.DB, Consistency: Consistent}
	defer func() { t.manifest.Artifacts[DB] = artifact }()
	dst := filepath.Join(t.dir, filepath.FromSlash(DBFile))
	if err := os.Mkdir(filepath.Dir(dst), 0o750); err != nil {
		return err
	}
	if err := t.root(DB, filepath.Dir(t.src.DB)); err != nil {
		return err
	}
	copied, err := sqlite.Copy(ctx, t.src.DB, dst, sqlite.CopyOptions{Share: t.o.Share, BusyTimeout: dbBusyTimeout, Deadline: dbCopyDeadline})
	var info sqlite.Info
	if err == nil {
		info, err = sqlite.Inspect(ctx, dst)
	}
	if err != nil && t.o.Tolerant && ctx.Err() == nil {
		artifact.Included, artifact.Method, artifact.Consistency = true, "raw", Unverified
		t.problems = append(t.problems, finding("db_integrity_check_failed", "the live database could not be copied through SQLite: "+err.Error()))
		n, err := t.copyRaw(ctx, t.src.DB, dst, owners, "", "-wal", "-shm", "-journal")
		artifact.Included = n > 0
		artifact.Bytes, artifact.Files = treeSize(filepath.Dir(dst))
		return err
	}
	if err != nil {
		return err
	}
	artifact.Included, artifact.Method, artifact.Bytes, artifact.Files = true, copied.Method, copied.Bytes, 1
	t.manifest.DB = &DBInfo{
		PageSize: info.PageSize, PageCount: info.PageCount, UserVersion: info.UserVersion, ApplicationID: info.ApplicationID,
		JournalModeOfSource: info.JournalMode, Tables: info.Tables,
	}
	return ownerOf(t.src.DB, DBFile, owners)
}

// copyRaw saves a file and its companions byte for byte, those that exist.
func (t *taking) copyRaw(ctx context.Context, src, dst string, owners map[string]File, suffixes ...string) (copied int, err error) {
	for _, suffix := range suffixes {
		os.Remove(dst + suffix) // a failed attempt's
		_, err := fsx.CopyFile(ctx, dst+suffix, src+suffix, 0o640, t.o.Share)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return copied, err
		}
		copied++
		rel, err := filepath.Rel(t.dir, dst+suffix)
		if err != nil {
			return copied, err
		}
		if err := ownerOf(src+suffix, filepath.ToSlash(rel), owners); err != nil {
			return copied, err
		}
	}
	return copied, nil
}

func (t *taking) copyRegistry(ctx context.Context, owners map[string]File) error {
	t.progress("registry", 0)
	artifact := Artifact{SourcePath: t.src.Registry, Method: "read", Consistency: Consistent}
	defer func() { t.manifest.Artifacts[Registry] = artifact }()
	if t.src.Registry == "" {
		return nil
	}
	dst := filepath.Join(t.dir, filepath.FromSlash(RegistryFile))
	data, err := readRegistry(ctx, t.src.Registry)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // allowed, and recorded as not included
	}
	if err != nil && t.o.Tolerant && ctx.Err() == nil {
		t.problems = append(t.problems, finding("registry_invalid_json", err.Error()))
		artifact.Method, artifact.Consistency = "raw", Unverified
		data, err = os.ReadFile(t.src.Registry)
	}
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Dir(dst), 0o750); err != nil {
		return err
	}
	if err := fsx.WriteFile(dst, data, 0o640); err != nil {
		return err
	}
	artifact.Included, artifact.Bytes, artifact.Files = true, int64(len(data)), 1
	if err := t.root(Registry, filepath.Dir(t.src.Registry)); err != nil {
		return err
	}
	return ownerOf(t.src.Registry, RegistryFile, owners)
}

func (t *taking) copyChroma(ctx context.Context, owners map[string]File) error {
	artifact := Artifact{SourcePath: t.src.Chroma, Consistency: Consistent}
	defer func() { t.manifest.Artifacts[Chroma] = artifact }()
	if !t.o.Full || t.src.Chroma == "" {
		return nil
	}
	if t.o.Tolerant && !exists(t.src.Chroma) {
		t.problems = append(t.problems, finding("chroma_snapshot_missing", t.src.Chroma+" does not exist"))
		return nil
	}
	t.progress("chroma", 0)
	if err := t.root(Chroma, t.src.Chroma); err != nil {
		return err
	}
	dst := filepath.Join(t.dir, ChromaDir)
	copied, err := t.chromaMethod(ctx, dst, t.o.ChromaMethod)
	if err != nil && t.o.Tolerant && ctx.Err() == nil {
		t.problems = append(t.problems, finding("chroma_segment_corrupt", "the live Chroma directory did not validate: "+err.Error()))
		if err := fsx.RemoveAll(dst); err != nil {
			return err
		}
		copied, err = t.chromaMethod(ctx, dst, "cold")
		copied.Consistency = Unverified
	}
	if err != nil {
		return err
	}
	artifact.Included, artifact.Method, artifact.Consistency = true, copied.Method, copied.Consistency
	artifact.Bytes, artifact.Files = copied.Bytes, copied.Files
	entries, err := chroma.Walk(t.src.Chroma)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := ownerOf(filepath.Join(t.src.Chroma, filepath.FromSlash(e.Path)), ChromaDir+"/"+e.Path, owners); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return ownerOf(t.src.Chroma, ChromaDir, owners)
}

func (t *taking) chromaMethod(ctx context.Context, dst, method string) (chroma.Copied, error) {
	o := chroma.Options{Share: t.o.Share, OptimisticTries: t.o.ChromaOptimisticTries, LockDeadline: t.o.ChromaLockDeadline}
	if method == "cold" {
		return chroma.CopyCold(ctx, t.src.Chroma, dst, o)
	}
	return chroma.CopyLive(ctx, t.src.Chroma, dst, o)
}

// root records the directory that held a live artifact.
func (t *taking) root(artifact, dir string) error {
	f, err := describe(dir, artifact)
	if errors.Is(err, fs.ErrNotExist) && t.o.Tolerant {
		return nil
	}
	if err == nil && f.Type == TypeSymlink {
		if dir, err = filepath.EvalSymlinks(dir); err == nil {
			f, err = describe(dir, artifact)
		}
	}
	if err != nil {
		return err
	}
	t.manifest.Roots[artifact] = Root{Path: dir, Mode: f.Mode, UID: f.UID, GID: f.GID}
	return nil
}

func ownerOf(live, name string, owners map[string]File) error {
	if resolved, err := filepath.EvalSymlinks(live); err == nil && name == DBFile {
		live = resolved
	}
	f, err := describe(live, name)
	if err == nil {
		owners[name] = f
	}
	return err
}

func treeSize(dir string) (bytes int64, files int) {
	found, err := scan(dir)
	if err != nil {
		return 0, 0
	}
	for _, f := range found {
		if f.Type == TypeFile {
			bytes += f.Size
			files++
		}
	}
	return bytes, files
}
