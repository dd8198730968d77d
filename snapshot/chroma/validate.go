package chroma

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/snapshot/sqlite"
)

// localVectors is the one kind of vector segment whose files we know.
const localVectors = "urn:chroma:segment/vector/hnsw-local-persisted"

// segmentDir is what Chroma names the directory of a segment.
var segmentDir = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// Validate judges a copied Chroma directory that nobody writes to. It reads the
// segment files and the database itself, never writes into dir, and trusts
// nothing it reads: memory stays in proportion to the number of records. The
// error is one of reading or of the context; whatever is wrong with the copy is
// in the report.
//
// It does not compare vectors or documents with anything: that is what digests
// in a manifest are for. It says what Chroma would do with the directory.
func Validate(ctx context.Context, dir string) (Report, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Report{}, err
	}
	defer root.Close()
	v := &validator{root: root, dir: dir, recognised: true}
	if err := v.run(ctx); err != nil {
		return Report{}, fmt.Errorf("validate %s: %w", dir, err)
	}
	v.report.close(v.recognised)
	return v.report, nil
}

type validator struct {
	root       *os.Root
	dir        string
	report     Report
	recognised bool
	known      map[string]bool // vector segments that belong to a collection
}

// run looks at the database first: without it nothing else has a meaning.
func (v *validator) run(ctx context.Context) error {
	info, err := v.root.Lstat(databaseName)
	if errors.Is(err, fs.ErrNotExist) {
		v.unrecognised("%s is missing: this is no Chroma directory that can be judged", databaseName)
		return nil
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() == 0 {
		v.report.fail(CodeDatabase, "%s is empty or not a regular file", databaseName)
		return nil
	}
	if err := v.sidecars(); err != nil {
		return err
	}
	f, err := openRegular(v.root, databaseName) // whether we may read it at all
	if err != nil {
		return err
	}
	f.Close()
	return v.judgeDatabase(ctx, filepath.Join(v.dir, databaseName))
}

// judgeDatabase checks the database's integrity and, beside that, what it says about
// the collections, which is worth something only when the database is sound.
func (v *validator) judgeDatabase(ctx context.Context, path string) error {
	content := &validator{root: v.root, dir: v.dir, recognised: v.recognised}
	reading, stop := context.WithCancel(ctx)
	var contentErr error
	var beside sync.WaitGroup
	readContent := func() {
		contentErr = fsx.OnCore(reading, func() error { return sqlite.WithStored(reading, path, content.database) })
	}
	sound := false
	err := fsx.OnCore(ctx, func() error {
		beside.Go(readContent) // not before: the check of the integrity takes longest
		return sqlite.WithStored(ctx, path, func(ctx context.Context, db *sql.DB, size int64) (err error) {
			sound, err = v.integrity(ctx, db, size)
			return err
		})
	})
	if !sound {
		stop()
	}
	beside.Wait()
	stop()
	if sound && err == nil {
		err = contentErr
		v.add(content)
	}
	var inFile *readError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &inFile):
		return inFile.err
	case err != nil:
		v.report.fail(CodeDatabase, "%s cannot be read: %v", databaseName, err)
	}
	return nil
}

// add takes over what another validator of the same directory found.
func (v *validator) add(other *validator) {
	for _, f := range other.report.Errors {
		v.report.fail(f.Code, "%s", f.Text)
	}
	for _, f := range other.report.Warnings {
		v.report.warn(f.Code, "%s", f.Text)
	}
	v.report.moreErrors += other.report.moreErrors
	v.report.moreWarns += other.report.moreWarns
	v.report.Collections, v.report.Vectors = other.report.Collections, other.report.Vectors
	v.recognised = other.recognised
}

// readError is an error that says nothing about the database: a segment file
// that could not be read.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }

// sidecars refuses what would make the database another one once SQLite opens
// it in the normal way: immutable=1 looks at neither file.
func (v *validator) sidecars() error {
	for _, suffix := range []string{"-journal", "-wal"} {
		info, err := v.root.Lstat(databaseName + suffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			v.report.fail(CodeDatabase, "%s%s is not a regular file", databaseName, suffix)
			continue
		}
		f, err := openRegular(v.root, databaseName+suffix)
		if err != nil {
			return err
		}
		var first [1]byte
		n, _ := f.Read(first[:])
		f.Close()
		// A journal that begins with zero is one that was committed.
		if n == 1 && (suffix == "-wal" || first[0] != 0) {
			v.report.fail(
				CodeDatabase,
				"%s%s lies beside it: the copy holds an unfinished transaction",
				databaseName,
				suffix,
			)
		}
	}
	return nil
}

func (v *validator) unrecognised(format string, args ...any) {
	v.recognised = false
	v.report.warn(CodeUnrecognised, format, args...)
}

// database judges what the database says about the collections.
func (v *validator) database(ctx context.Context, db *sql.DB, _ int64) error {
	if lacks, err := missingSchema(ctx, db); err != nil {
		return err
	} else if lacks != "" {
		v.unrecognised("%s has no %s: another version of Chroma, or not Chroma's", databaseName, lacks)
		return nil
	}
	c, err := readCatalog(ctx, db)
	if err != nil {
		return err
	}
	v.known = c.vectorSegments()
	for i := range c.collections {
		if err := v.collection(ctx, db, c, &c.collections[i]); err != nil {
			return err
		}
	}
	if c.strangeOperations > 0 {
		v.unrecognised("the log holds %d entries of an unknown operation", c.strangeOperations)
	}
	return v.orphans()
}

func (v *validator) integrity(ctx context.Context, db *sql.DB, size int64) (bool, error) {
	problems, unchecked, err := sqlite.Integrity(ctx, db, size)
	if err != nil {
		return false, err
	}
	for _, text := range unchecked {
		v.report.warn(CodeUnchecked, "%s: %s", databaseName, clip(text, 300))
	}
	if len(problems) > 0 {
		v.report.fail(CodeDatabase, "%s: %s", databaseName, clip(strings.Join(problems, "; "), 300))
	}
	return len(problems) == 0, nil
}

// collection judges one collection: its segment's files, and what replaying the
// log over both segments will leave.
func (v *validator) collection(ctx context.Context, db *sql.DB, c *catalog, col *collection) error {
	if len(col.vectors) != 1 || len(col.records) != 1 {
		v.report.fail(
			CodeSegmentMissing,
			"collection %s has %d vector and %d metadata segments",
			col.label(),
			len(col.vectors),
			len(col.records),
		)
		return nil
	}
	if !col.dimension.Valid {
		return nil // never written to
	}
	v.report.Collections++
	vectors := col.vectors[0]
	if vectors.kind != localVectors {
		v.unrecognised(
			"segment %s of collection %s is a %s",
			clip(vectors.id, 64),
			col.label(),
			clip(vectors.kind, 100),
		)
		return nil
	}
	if !segmentDir.MatchString(vectors.id) {
		v.report.fail(
			CodeSegmentMissing,
			"collection %s: %q is no name of a segment",
			col.label(),
			clip(vectors.id, 64),
		)
		return nil
	}
	judge := &segmentJudge{root: v.root, report: &v.report, id: vectors.id, dimension: col.dimension.Int64}
	seg, err := judge.judge(ctx)
	if err != nil {
		return &readError{err}
	}
	if judge.newer {
		v.recognised = false
	}
	return v.replay(ctx, db, c, col, seg)
}

// orphans names the directories that look like segments and belong to no
// collection: Chroma leaves them when a collection is deleted.
func (v *validator) orphans() error {
	top, err := v.root.Open(".")
	if err != nil {
		return &readError{err}
	}
	defer top.Close()
	entries, err := top.ReadDir(-1)
	if err != nil {
		return &readError{err}
	}
	for _, e := range entries {
		if e.IsDir() && segmentDir.MatchString(e.Name()) && !v.known[e.Name()] {
			v.report.warn(CodeOrphan, "%s belongs to no collection", e.Name())
		}
	}
	return nil
}

// clip shortens what a stranger may have written, for messages.
func clip(s string, most int) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
