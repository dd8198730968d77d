package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/fsx"
	"golang.org/x/sync/errgroup"
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

	damaged []Damage // the findings that are about one path each
	proven  *Proven
}

// Proven returns what a later copy in the same run may be compared with, instead of
// being checked itself; nil where there is anything to say about the snapshot.
func (r *Result) Proven() *Proven { return r.proven }

// Damage is a path that is not what the manifest says, and in which way.
type Damage struct{ Path, Why string }

// Damaged returns the findings that are about one path each.
func (r *Result) Damaged() []Damage { return r.damaged }

func newResult(stamp, path string) Result {
	return Result{Stamp: stamp, Path: path, Errors: []string{}, Warnings: []string{}, Checked: []string{}}
}

func (r *Result) fail(code, format string, args ...any) {
	r.Errors = append(r.Errors, finding(code, fmt.Sprintf(format, args...)))
}

// failPath is fail about one path.
func (r *Result) failPath(path, code, format string, args ...any) {
	r.fail(code, format, args...)
	r.damaged = append(r.damaged, Damage{path, r.Errors[len(r.Errors)-1]})
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

// add appends what another part of the same check found.
func (r *Result) add(part Result) {
	r.Errors = append(r.Errors, part.Errors...)
	r.Warnings = append(r.Warnings, part.Warnings...)
	r.Checked = append(r.Checked, part.Checked...)
	r.damaged = append(r.damaged, part.damaged...)
}

// ValidateOptions says what the configuration asks of every snapshot.
type ValidateOptions struct {
	RequiredTables []string
	Described      bool         // it was published with a manifest, which therefore must be there
	Progress       fsx.Progress // may be nil
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
	manifest, content := readDocuments(dir, o.Described, &result)
	if manifest != nil && manifest.Stamp != Stamp(stamp) {
		result.fail("metadata_invalid_json", "%s is the manifest of %s", ManifestFile, manifest.Stamp)
	}
	sourceWasClean := manifest != nil && !hasCode(manifest.Validation.Warnings, "db_foreign_key_check_failed")
	checks := contentChecks(dir, content, sourceWasClean, o)
	if manifest != nil {
		checks = append(checks, func(ctx context.Context, result *Result) error {
			return checkFiles(ctx, dir, manifest, content, o, result)
		})
	}
	if err := sideBySide(ctx, checks, &result); err != nil {
		return result, err
	}
	if manifest != nil {
		carryOver(manifest.Validation, &result)
		if len(result.Errors)+len(result.Warnings) == 0 {
			result.proven = newProven(dir, manifest)
		}
	}
	return result, nil
}

// check judges one aspect of a snapshot and adds what it finds to the result. The
// error is for a cancelled context.
type check func(context.Context, *Result) error

// sideBySide runs checks at the same time, for each keeps one core busy, and adds
// what they found in their order.
func sideBySide(ctx context.Context, checks []check, result *Result) error {
	group, checking := errgroup.WithContext(ctx)
	parts := make([]Result, len(checks))
	for i, check := range checks {
		parts[i] = newResult(result.Stamp, result.Path)
		group.Go(func() error { return check(checking, &parts[i]) })
	}
	err := group.Wait()
	for _, part := range parts {
		result.add(part)
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// carryOver repeats what was wrong with a snapshot of a broken store, which is
// kept as it was found: that something was missing does not show any more.
func carryOver(taken Validation, result *Result) {
	for _, f := range taken.Errors {
		code, text, _ := strings.Cut(f, ": ")
		if !taken.Valid && !hasCode(result.Errors, code) {
			result.fail(code, "%s", text)
		}
	}
}

func hasCode(findings []string, code string) bool {
	for _, f := range findings {
		if f == code || strings.HasPrefix(f, code+":") {
			return true
		}
	}
	return false
}

// ManifestGone is the finding about a snapshot that was published with a manifest and
// has none.
const ManifestGone = "metadata_missing: " + ManifestFile + " is gone"

func readDocuments(dir string, described bool, result *Result) (*Manifest, Content) {
	manifest, err := ReadManifest(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		result.fail("metadata_invalid_json", "%s: %v", ManifestFile, err)
	}
	if described && errors.Is(err, fs.ErrNotExist) {
		result.Errors = append(result.Errors, ManifestGone)
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
