package snapshot

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"

	"github.com/atocore/atobackupd/snapshot/chroma"
)

// checkFiles compares every file with the manifest: none missing, none too
// many, none changed. Only what a walk of dir has found is ever opened, whatever
// paths the manifest names. The error is for a cancelled context.
func checkFiles(ctx context.Context, dir string, m *Manifest, c Content, o ValidateOptions, result *Result) error {
	var found []File
	for file, err := range walk(dir, ".") {
		if err != nil {
			result.failPath(file.Path, "file_missing", "%s cannot be read: %v", file.Path, reason(err))
			continue
		}
		found = append(found, file)
	}
	onDisk := make(map[string]File, len(found))
	for _, f := range found {
		onDisk[f.Path] = f
	}
	var same []File // of the same type and size: their digests decide
	want := make(map[string]string)
	for _, f := range m.Files {
		disk, ok := onDisk[f.Path]
		delete(onDisk, f.Path)
		if !ok {
			result.failPath(f.Path, "file_missing", "%s", f.Path)
			continue
		}
		if code, text := compareEntry(disk, f); code != "" {
			result.failPath(f.Path, code, "%s", text)
			continue
		}
		if f.Type == TypeFile {
			same = append(same, disk)
			want[f.Path] = f.SHA256
		}
	}
	for _, f := range found {
		_, left := onDisk[f.Path]
		switch {
		case !left || isSidecar(f.Path, c):
		case isEmptySidecar(f):
			result.warn("file_unexpected", "%s was left by somebody who looked, and holds nothing", f.Path)
		default:
			result.failPath(f.Path, "file_unexpected", "%s", f.Path)
		}
	}
	if err := checkDigests(ctx, dir, same, want, o, result); err != nil {
		return err
	}
	result.Checked = append(result.Checked, "checksums")
	return nil
}

// compareEntry says how an entry differs from what the manifest says, as far as
// that shows without reading it; "" when it does not.
func compareEntry(disk, m File) (code, text string) {
	switch {
	case disk.Type != m.Type:
		return "file_missing", fmt.Sprintf("%s is now a %s, not a %s", m.Path, disk.Type, m.Type)
	case m.Type == TypeSymlink && disk.Target != m.Target:
		return "checksum_mismatch", fmt.Sprintf("%s points to %q, not to %q", m.Path, disk.Target, m.Target)
	case m.Type == TypeFile && disk.Size != m.Size:
		return "file_size_mismatch", fmt.Sprintf("%s has %d bytes, not %d", m.Path, disk.Size, m.Size)
	case m.Type == typeOther:
		return "file_unexpected", m.Path + " is neither a file, a directory nor a symbolic link"
	}
	return "", ""
}

// checkDigests reads files and compares their digests. One that cannot be read
// is a finding: a rotten sector must not hide what else is wrong.
func checkDigests(
	ctx context.Context,
	dir string,
	files []File,
	want map[string]string,
	o ValidateOptions,
	result *Result,
) error {
	var mu sync.Mutex
	unreadable := make(map[string]error)
	err := digest(ctx, dir, files, o.Progress, func(f File, err error) {
		mu.Lock()
		defer mu.Unlock()
		unreadable[f.Path] = err
	})
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := unreadable[f.Path]; err != nil {
			result.failPath(f.Path, "checksum_mismatch", "%s cannot be read: %v", f.Path, reason(err))
		} else if f.SHA256 != want[f.Path] {
			result.failPath(f.Path, "checksum_mismatch", "%s", f.Path)
		}
	}
	return nil
}

// isEmptySidecar reports whether a file beside Chroma's database holds nothing of it.
func isEmptySidecar(f File) bool {
	suffix, ok := strings.CutPrefix(f.Path, ChromaDir+"/"+chroma.DatabaseName)
	return ok && f.Type == TypeFile && (suffix == "-shm" || f.Size == 0 && (suffix == "-wal" || suffix == "-journal"))
}

// isSidecar tells the files beside the database, which have a code of their own.
func isSidecar(name string, c Content) bool {
	suffix, ok := strings.CutPrefix(name, filepath.ToSlash(c.DB))
	return ok && (suffix == "-wal" || suffix == "-shm" || suffix == "-journal")
}
