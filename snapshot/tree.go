package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"

	"github.com/atocore/atobackupd/internal/fsx"
	"golang.org/x/sync/errgroup"
)

// walk returns everything at and below a name in a snapshot directory ("." is all
// of it) except our manifest, sorted by path, without digests. It follows no
// symbolic link. What cannot be read comes as an error with its Path, and the walk
// goes on.
func walk(dir, name string) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		_ = filepath.WalkDir(filepath.Join(dir, name), func(path string, _ fs.DirEntry, err error) error {
			rel, relErr := filepath.Rel(dir, path)
			if relErr != nil || err == nil && (rel == "." || rel == ManifestFile) {
				return relErr
			}
			file := File{Path: filepath.ToSlash(rel)}
			if err == nil {
				file, err = describe(path, file.Path)
			}
			if !yield(file, err) {
				return fs.SkipAll
			}
			return nil
		})
	}
}

// scan is walk that ends with the first error.
func scan(dir, name string) (files []File, err error) {
	for file, err := range walk(dir, name) {
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}

// typeOther is a device, socket or FIFO: no snapshot of ours has one.
const typeOther = "special file"

// describe returns the entry for one path, without a digest.
func describe(path, name string) (File, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return File{Path: name}, err
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
		f.Target, err = os.Readlink(path)
	default:
		f.Type = typeOther
	}
	return f, err
}

// permissions returns the bits that chmod(2) takes.
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

// digest fills in the SHA-256 of every regular file, several at a time. Paths are
// opened below dir only, whatever they say. A file that cannot be read ends it,
// unless unreadable is given: then it is told, and its digest stays empty.
func digest(ctx context.Context, dir string, files []File, progress fsx.Progress, unreadable func(File, error)) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	read := progress.Count("checksums", filesSize(files))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range files {
		if files[i].Type != TypeFile {
			continue
		}
		group.Go(func() (err error) {
			files[i].SHA256, err = digestFile(ctx, root, files[i].Path, read)
			if err != nil && ctx.Err() == nil && unreadable != nil {
				unreadable(files[i], err)
				return nil
			}
			return err
		})
	}
	return group.Wait()
}

func filesSize(files []File) (sum int64) {
	for _, f := range files {
		if f.Type == TypeFile {
			sum += f.Size
		}
	}
	return sum
}

// digestBuffers are reused: a Chroma directory may have very many small files.
var digestBuffers = sync.Pool{New: func() any { return new([1 << 20]byte) }}

func digestFile(ctx context.Context, root *os.Root, name string, progress func(bytes int64)) (sum string, err error) {
	err = fsx.OnCore(ctx, func() (err error) {
		sum, err = readDigest(ctx, root, name, progress)
		return err
	})
	return sum, err
}

func readDigest(ctx context.Context, root *os.Root, name string, progress func(bytes int64)) (string, error) {
	// O_NONBLOCK: a FIFO that took the place of a file must not hang us.
	f, err := root.OpenFile(filepath.FromSlash(name), os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return digestOpen(ctx, f, progress)
}

// digestOpen reads an open file to its end.
func digestOpen(ctx context.Context, f io.Reader, progress func(bytes int64)) (string, error) {
	hash := sha256.New()
	buf := digestBuffers.Get().(*[1 << 20]byte)[:]
	defer digestBuffers.Put((*[1 << 20]byte)(buf))
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

// Inventory returns every file of a snapshot with its digest, without our
// manifest: what the manifest says, or, for one that AtoCore's own tools made,
// what lies there now.
func (s *Snapshot) Inventory(ctx context.Context) ([]File, error) {
	if s.Manifest != nil {
		return s.Manifest.Files, nil
	}
	files, err := scan(s.Path, ".")
	if err != nil {
		return nil, err
	}
	return files, digest(ctx, s.Path, files, nil, nil)
}
