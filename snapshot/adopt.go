package snapshot

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot/sqlite"
)

// AdoptOptions is what the manifest of an adopted snapshot records about where
// it came from.
type AdoptOptions struct {
	Kind              Kind // "" is Adopted; another where AtoCore made it on request
	Host, ToolVersion string
	Sources           Sources
	Validate          ValidateOptions

	// For AdoptForeign, as TakeOptions have them.
	MinFree int64
	Share   Share
	Owners  tree.Owners
}

// Adopt validates a snapshot that AtoCore's own tools made and, when it is
// good, adds our manifest to it: its digests as they are now, so that rot is
// seen from then on. One that does not validate is left as it is, with the
// Result to show for it; one that has a manifest already is only validated.
// Nothing else in the directory is touched. A foreign one is for AdoptForeign. The
// caller holds the main lock.
func (s *Store) Adopt(ctx context.Context, stamp Stamp, o AdoptOptions) (Result, error) {
	started := time.Now().UTC()
	result, err := s.Validate(ctx, stamp, o.Validate)
	if err != nil || !result.Valid {
		return result, err
	}
	snap, err := s.Get(stamp)
	if err != nil || snap.Manifest != nil {
		return result, err
	}
	m, err := manifestOf(ctx, snap, o, result)
	if err != nil {
		return result, err
	}
	m.StartedAt, m.FinishedAt = stamp.Time(), time.Now().UTC()
	m.Validation = Validation{
		Valid:      true,
		Errors:     result.Errors,
		Warnings:   result.Warnings,
		CheckedAt:  started,
		DurationMS: result.DurationMS,
	}
	if err := s.writeJSON(filepath.Join(snap.Path, ManifestFile), m); err != nil {
		return result, &failure.Error{Op: "adopt", Subject: string(stamp), Err: err,
			Hint: "the directory belongs to the application's user; give this process write access to it"}
	}
	return result, nil
}

// isForeign reports whether a snapshot's directory belongs to somebody else: not
// to root, the caller or the owner of the backup directory, who is the service's
// user. Its manifest is not believed, or anybody who may add a snapshot could have
// it count as one of ours.
func (s *Store) isForeign(info os.FileInfo) bool {
	owners := tree.Trusted(s.dir)
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && !owners.Has(int(st.Uid))
}

// methodAtoCore is of what AtoCore itself copied.
const methodAtoCore = "atocore"

func manifestOf(ctx context.Context, snap Snapshot, o AdoptOptions, result Result) (*Manifest, error) {
	metadata, err := ReadMetadata(snap.Path)
	if err != nil {
		return nil, err
	}
	files, err := scan(snap.Path, ".")
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if f.Type == typeOther {
			return nil, fmt.Errorf("%s is neither a file, a directory nor a symbolic link", f.Path)
		}
	}
	if err := digest(ctx, snap.Path, files, nil, nil); err != nil {
		return nil, err
	}
	content := ContentOf(snap.Path, nil, metadata)
	info, err := sqlite.Inspect(ctx, filepath.Join(snap.Path, content.DB))
	if err != nil {
		return nil, err
	}
	m := &Manifest{
		Schema: Schema, Stamp: snap.Stamp, Kind: cmp.Or(o.Kind, Adopted), Host: o.Host, ToolVersion: o.ToolVersion,
		Files: files, Roots: map[string]Root{}, DB: dbInfo(info), Artifacts: map[string]Artifact{},
	}
	add := func(name string, included bool, source, path, root string) {
		a := Artifact{Included: included, SourcePath: source, Consistency: Consistent}
		if included {
			a.Method = methodAtoCore
			a.Bytes, a.Files = sizeOf(snap.Path, path)
		}
		m.Artifacts[name] = a
		// AtoCore records no owners. Those of today are the best that is known.
		if live, err := rootAt(root, tree.Trusted("")); included && source != "" && err == nil {
			m.Roots[name] = live
		}
	}
	src := o.Sources
	add(DB, true, src.DB, content.DB, filepath.Dir(src.DB))
	add(Registry, content.RegistryIncluded, src.Registry, content.Registry, filepath.Dir(src.Registry))
	add(Chroma, content.ChromaIncluded, src.Chroma, content.Chroma, src.Chroma)
	if hasCode(result.Warnings, codeUnverified) {
		a := m.Artifacts[Chroma]
		a.Consistency = Unverified
		m.Artifacts[Chroma] = a
	}
	return m, nil
}

// sizeOf is treeSize of a file or a directory.
func sizeOf(dir, rel string) (bytes int64, files int) {
	path := filepath.Join(dir, rel)
	if f, err := describe(path, rel); err == nil && f.Type == TypeFile {
		return f.Size, 1
	}
	return treeSize(path)
}
