package snapshot

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/snapshot/chroma"
	"github.com/atocore/atobackupd/snapshot/sqlite"
)

// contentChecks returns the checks of the artifacts themselves, which need no
// manifest.
func contentChecks(dir string, c Content, sourceWasClean bool, o ValidateOptions) []check {
	checks := []check{func(ctx context.Context, result *Result) error {
		o.Progress.Tell("database", 0, 0)
		return checkDB(ctx, dir, c.DB, sourceWasClean, o.RequiredTables, result)
	}}
	if c.RegistryIncluded {
		checks = append(checks, func(_ context.Context, result *Result) error {
			o.Progress.Tell("registry", 0, 0)
			checkRegistry(dir, c.Registry, result)
			return nil
		})
	}
	if c.ChromaIncluded {
		checks = append(checks, func(ctx context.Context, result *Result) error {
			o.Progress.Tell("chroma", 0, 0)
			return checkChroma(ctx, dir, c, result)
		})
	}
	return checks
}

// checkDB judges the database at rel. A violated foreign key is an error only
// where the source was clean: SQLite enforces them on request, so a live
// database may well have had it. The error is for a cancelled context.
func checkDB(ctx context.Context, dir, rel string, sourceWasClean bool, requiredTables []string, result *Result) error {
	path := filepath.Join(dir, rel)
	if info, err := lstatInside(dir, rel); err != nil {
		result.fail("db_snapshot_missing", "%s: %v", rel, reason(err))
		return nil
	} else if !info.Mode().IsRegular() {
		result.fail("db_not_sqlite", "%s is not a regular file", rel)
		return nil
	}
	bad, warnings, err := sqlite.Check(ctx, path, sqlite.CheckOptions{RequiredTables: requiredTables})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		// A sector that cannot be read is a finding, not the end: the scrub that
		// meets it has other snapshots to look at.
		result.fail("db_integrity_check_failed", "%s cannot be read: %v", rel, reason(err))
		return nil
	}
	for _, f := range bad {
		result.fail(f.Code, "%s", relativeTo(dir, f.Text))
	}
	for _, f := range warnings {
		if f.Code == sqlite.CodeForeignKeys && sourceWasClean {
			result.fail(f.Code, "%s", relativeTo(dir, f.Text))
			continue
		}
		result.warn(f.Code, "%s", relativeTo(dir, f.Text))
	}
	result.Checked = append(result.Checked, "db")
	return nil
}

func checkRegistry(dir, rel string, result *Result) {
	info, err := lstatInside(dir, rel)
	if err != nil {
		result.fail("registry_missing", "%s: %v", rel, reason(err))
		return
	}
	if !info.Mode().IsRegular() {
		result.fail("registry_missing", "%s is not a regular file", rel)
		return
	}
	data, err := fsx.ReadRegular(filepath.Join(dir, rel), maxRegistry)
	if err == nil {
		err = checkJSON(data)
	}
	if err != nil {
		result.fail("registry_invalid_json", "%s: %v", rel, reason(err))
	}
	result.Checked = append(result.Checked, "registry")
}

func checkChroma(ctx context.Context, dir string, c Content, result *Result) error {
	if info, err := lstatInside(dir, c.Chroma); err != nil {
		result.fail("chroma_snapshot_missing", "%s: %v", c.Chroma, reason(err))
		return nil
	} else if !info.IsDir() {
		result.fail("chroma_snapshot_missing", "%s is not a directory", c.Chroma)
		return nil
	}
	report, err := chroma.Validate(ctx, filepath.Join(dir, c.Chroma))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		result.fail("chroma_segment_corrupt", "%s cannot be read: %v", c.Chroma, relativeTo(dir, err.Error()))
		return nil
	}
	addChromaFindings(dir, report.Errors, report.Warnings, result)
	if len(report.Errors) == 0 && (report.Consistency == Unverified || !c.ChromaVerifiable) {
		warnUnverified(result)
	}
	result.Checked = append(result.Checked, "chroma")
	return nil
}

func addChromaFindings(dir string, errors, warnings []chroma.Finding, result *Result) {
	for _, f := range errors {
		result.fail(f.Code, "%s", relativeTo(dir, f.Text))
	}
	for _, f := range warnings {
		result.warn(f.Code, "%s", relativeTo(dir, f.Text))
	}
}

// codeUnverified is of the warning that a Chroma directory could not be judged.
const codeUnverified = "chroma_unverified"

func warnUnverified(result *Result) {
	result.warn(
		codeUnverified,
		"the format of the Chroma directory is not known to this program; only its bytes were checked",
	)
}

// lstatInside is Lstat of a path below dir none of whose parents may be a
// symbolic link: a snapshot may be somebody else's, and what it names is opened.
func lstatInside(dir, rel string) (fs.FileInfo, error) {
	for parent := filepath.Dir(rel); parent != "."; parent = filepath.Dir(parent) {
		info, err := os.Lstat(filepath.Join(dir, parent))
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			return nil, &fs.PathError{Op: "lstat", Path: parent, Err: unix.ENOTDIR}
		}
	}
	return os.Lstat(filepath.Join(dir, rel))
}

// relativeTo takes the snapshot's directory out of a finding: it is known, and
// while a snapshot is being taken it is a name in staging/ that will not last.
func relativeTo(dir, text string) string {
	return strings.ReplaceAll(text, dir+string(filepath.Separator), "")
}

// reason is the last part of an error of the file system: the path is told
// beside it.
func reason(err error) error {
	if e, ok := err.(*fs.PathError); ok {
		return e.Err
	}
	return err
}
