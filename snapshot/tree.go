package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sync/errgroup"
)

// scan lists everything below a snapshot directory except our manifest, sorted
// by path, without digests. It follows no symbolic link.
func scan(dir string) ([]File, error) {
	var files []File
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path == dir {
			return nil
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil || rel == ManifestFile {
			return err
		}
		file, err := describe(path, filepath.ToSlash(rel))
		if err == nil {
			files = append(files, file)
		}
		return err
	})
	return files, err
}

// typeOther is a device, socket or FIFO: no snapshot of ours has one.
const typeOther = "other"

// describe gives the entry for one path, without a digest.
func describe(path, name string) (File, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return File{}, err
	}
	f := File{Path: name, Mode: permissions(info.Mode()), MTime: info.ModTime().UTC()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		f.UID, f.GID = int(st.Uid), int(st.Gid)
	}
	switch {
	case info.Mode().IsRegular():
		f.Type, f.Size = TypeFile, info.Size()
	case info.IsDir():
		f.Type = TypeDir
	case info.Mode()&fs.ModeSymlink != 0:
		f.Type = TypeSymlink
		if f.Target, err = os.Readlink(path); err != nil {
			return File{}, err
		}
	default:
		f.Type = typeOther
	}
	return f, nil
}

// permissions gives the bits that chmod(2) takes.
func permissions(mode fs.FileMode) uint32 {
	bits := uint32(mode.Perm())
	if mode&fs.ModeSetuid != 0 {
		bits |= syscall.S_ISUID
	}
	if mode&fs.ModeSetgid != 0 {
		bits |= syscall.S_ISGID
	}
	if mode&fs.ModeSticky != 0 {
		bits |= syscall.S_ISVTX
	}
	return bits
}

// digest fills in the SHA-256 of every regular file, several at a time. Paths
// are opened below dir only, whatever they say. A file that cannot be read ends
// it, unless unreadable is given: then it is told, and its digest stays empty.
func digest(ctx context.Context, dir string, files []File, progress func(bytes int64), unreadable func(File, error)) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range files {
		if files[i].Type != TypeFile {
			continue
		}
		group.Go(func() (err error) {
			files[i].SHA256, err = digestFile(ctx, root, files[i].Path, progress)
			if err != nil && ctx.Err() == nil && unreadable != nil {
				unreadable(files[i], err)
				return nil
			}
			return err
		})
	}
	return group.Wait()
}

func digestFile(ctx context.Context, root *os.Root, name string, progress func(bytes int64)) (string, error) {
	// O_NONBLOCK: a FIFO that took the place of a file must not hang us.
	f, err := root.OpenFile(filepath.FromSlash(name), os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	hash := sha256.New()
	buf := make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := f.Read(buf)
		hash.Write(buf[:n])
		if progress != nil {
			progress(int64(n))
		}
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(hash.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// Inventory gives every file of a snapshot with its digest, without our
// manifest: what the manifest says, or, for one that AtoCore's own tools made,
// what lies there now.
func (s *Snapshot) Inventory(ctx context.Context) ([]File, error) {
	if s.Manifest != nil {
		return s.Manifest.Files, nil
	}
	files, err := scan(s.Path)
	if err != nil {
		return nil, err
	}
	return files, digest(ctx, s.Path, files, nil, nil)
}
