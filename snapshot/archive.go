package snapshot

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/atocore/atobackupd/internal/failure"
)

// Archive writes the snapshot to w as a tar file (the pax format of POSIX),
// everything below one directory that is named by the stamp. Owners, modes and
// times are those of the live files, as a restore gives them back; our own
// documents have their own. It returns the number and the bytes of the regular
// files.
//
// Every file is compared with its digest while it is read. One that is missing
// or has other bytes ends the archive with an error of kind Invalid, and what w
// has got until then is of no use. Files that the manifest does not name are
// left out. progress may be nil. The caller holds the snapshot (see Hold), and
// w is not closed.
func (s *Snapshot) Archive(
	ctx context.Context,
	w io.Writer,
	progress func(bytes int64),
) (files int, bytes int64, err error) {
	entries, err := s.archived(ctx)
	if err != nil {
		return 0, 0, err
	}
	root, err := os.OpenRoot(s.Path)
	if err != nil {
		return 0, 0, err
	}
	defer root.Close()
	a := &archive{ctx: ctx, root: root, tar: tar.NewWriter(w), prefix: string(s.Stamp), progress: progress}
	for _, entry := range entries {
		if err := a.add(entry); err != nil {
			if failure.KindOf(err) == failure.Invalid {
				err = &failure.Error{Op: "archive", Subject: string(s.Stamp), Kind: failure.Invalid, Err: err,
					Hint: "the disk has changed it since it was taken; see `atobackupd validate " +
						string(s.Stamp) + "`, and take another one"}
			}
			return 0, 0, err
		}
		if entry.Type == TypeFile {
			files, bytes = files+1, bytes+entry.Size
		}
	}
	return files, bytes, a.tar.Close()
}

// archived returns what belongs into the archive, parents before children: what
// the inventory names, the directory itself and our manifest.
func (s *Snapshot) archived(ctx context.Context) ([]File, error) {
	inventory, err := s.Inventory(ctx)
	if err != nil {
		return nil, err
	}
	top, err := describe(s.Path, ".")
	if err != nil {
		return nil, err
	}
	entries := append([]File{top}, inventory...)
	if s.Manifest != nil {
		manifest, err := describe(filepath.Join(s.Path, ManifestFile), ManifestFile)
		if err != nil {
			return nil, err
		}
		entries = append(entries, manifest) // it names no digest of its own
	}
	slices.SortStableFunc(entries, func(x, y File) int { return strings.Compare(x.Path, y.Path) })
	return entries, nil
}

type archive struct {
	ctx      context.Context
	root     *os.Root
	tar      *tar.Writer
	prefix   string
	progress func(int64)
}

func (a *archive) add(f File) error {
	// Not Join alone: a manifest is a file like others, and names must not
	// lead out of the directory that the archive makes.
	if !filepath.IsLocal(filepath.FromSlash(f.Path)) {
		return broken("metadata_invalid_json", "a manifest must not name "+f.Path)
	}
	header := &tar.Header{
		Name: a.prefix + "/" + f.Path, Mode: int64(f.Mode), Uid: f.UID, Gid: f.GID, ModTime: f.MTime,
		Format: tar.FormatPAX,
	}
	switch f.Type {
	case TypeFile:
		header.Typeflag, header.Size = tar.TypeReg, f.Size
		return a.file(f, header)
	case TypeDir:
		header.Typeflag, header.Name = tar.TypeDir, strings.TrimSuffix(header.Name, "/.")+"/"
	case TypeSymlink:
		header.Typeflag, header.Linkname = tar.TypeSymlink, f.Target
	default:
		return broken("file_unexpected", f.Path+" is a "+f.Type)
	}
	return a.tar.WriteHeader(header)
}

func (a *archive) file(f File, header *tar.Header) error {
	// O_NONBLOCK: a FIFO that took the place of a file must not hang us.
	in, err := a.root.OpenFile(filepath.FromSlash(f.Path), os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return broken("file_missing", f.Path)
	}
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	// Before the header, which promises the size.
	if !info.Mode().IsRegular() || info.Size() != f.Size {
		return broken("file_size_mismatch", fmt.Sprintf("%s has %d bytes, not %d", f.Path, info.Size(), f.Size))
	}
	if err := a.tar.WriteHeader(header); err != nil {
		return err
	}
	sum, err := a.copy(in, f.Size)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return broken("file_size_mismatch", f.Path+" shrank while it was read")
	}
	if err == nil && f.SHA256 != "" && sum != f.SHA256 {
		return broken("checksum_mismatch", f.Path)
	}
	return err
}

// copy sends exactly size bytes into the archive and returns their digest.
func (a *archive) copy(in io.Reader, size int64) (sum string, err error) {
	hash := sha256.New()
	buf := digestBuffers.Get().(*[1 << 20]byte)
	defer digestBuffers.Put(buf)
	for size > 0 {
		if err := a.ctx.Err(); err != nil {
			return "", err
		}
		n, err := io.ReadFull(in, buf[:min(size, int64(len(buf)))])
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return "", err
		}
		hash.Write(buf[:n])
		if _, err := a.tar.Write(buf[:n]); err != nil {
			return "", err
		}
		if a.progress != nil {
			a.progress(int64(n))
		}
		size -= int64(n)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

func broken(code, text string) error {
	return &failure.Error{Kind: failure.Invalid, Err: errors.New(finding(code, text))}
}
