package sftpserver

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"

	"github.com/pkg/sftp"
)

// files answers SFTP requests within one directory: no path and no symbolic link
// leads out of an os.Root.
type files struct {
	root   *os.Root
	rename sync.Mutex // between looking for a name and taking it
}

// within turns a path of the protocol into one relative to the root.
func within(p string) string {
	if p = strings.TrimPrefix(path.Clean("/"+p), "/"); p != "" {
		return p
	}
	return "."
}

// Fileread opens a file for reading.
func (f *files) Fileread(r *sftp.Request) (io.ReaderAt, error) {
	return f.root.Open(within(r.Filepath))
}

// Filewrite opens a file for writing.
func (f *files) Filewrite(r *sftp.Request) (io.WriterAt, error) { return f.open(r, os.O_WRONLY) }

// OpenFile opens a file for both.
func (f *files) OpenFile(r *sftp.Request) (sftp.WriterAtReaderAt, error) {
	return f.open(r, os.O_RDWR)
}

func (f *files) open(r *sftp.Request, flags int) (*flushed, error) {
	asked := r.Pflags()
	for _, o := range []struct {
		asked bool
		flag  int
	}{{asked.Creat, os.O_CREATE}, {asked.Excl, os.O_EXCL}, {asked.Trunc, os.O_TRUNC}} {
		if o.asked {
			flags |= o.flag
		}
	}
	file, err := f.root.OpenFile(within(r.Filepath), flags, 0o600)
	if err != nil {
		return nil, err
	}
	return &flushed{file}, nil
}

// flushed is a file that is on the disk once it is closed.
type flushed struct{ *os.File }

func (f *flushed) Close() error { return errors.Join(f.Sync(), f.File.Close()) }

// Filecmd changes names. Links, owners and times are not needed by anyone.
func (f *files) Filecmd(r *sftp.Request) error {
	name := within(r.Filepath)
	switch r.Method {
	case "Mkdir":
		return f.thenFlush(name, f.root.Mkdir(name, 0o700))
	case "Remove", "Rmdir":
		return f.thenFlush(name, f.remove(name, r.Method == "Rmdir"))
	case "Rename":
		return f.move(name, within(r.Target))
	case "Setstat":
		if r.AttrFlags().Permissions {
			return f.root.Chmod(name, r.Attributes().FileMode().Perm())
		}
	}
	return sftp.ErrSSHFxOpUnsupported
}

// remove deletes a file, or an empty directory, but not one for the other.
func (f *files) remove(name string, dir bool) error {
	info, err := f.root.Lstat(name)
	if err != nil {
		return err
	}
	if info.IsDir() != dir {
		return sftp.ErrSSHFxFailure
	}
	return f.root.Remove(name)
}

// move refuses to replace, as OpenSSH does.
func (f *files) move(from, to string) error {
	f.rename.Lock()
	defer f.rename.Unlock()
	if _, err := f.root.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(sftp.ErrSSHFxFailure, err)
	}
	if err := f.thenFlush(to, f.root.Rename(from, to)); err != nil {
		return err
	}
	return f.thenFlush(from, nil)
}

// thenFlush makes the change of name's entry durable if it was made.
func (f *files) thenFlush(name string, err error) error {
	if err != nil {
		return err
	}
	dir, err := f.root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// PosixRename would replace, so it is refused.
func (f *files) PosixRename(*sftp.Request) error { return sftp.ErrSSHFxOpUnsupported }

// StatVFS tells the space of the directory's file system.
func (f *files) StatVFS(r *sftp.Request) (*sftp.StatVFS, error) {
	file, err := f.root.Open(within(r.Filepath))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var vfs syscall.Statfs_t
	if err := syscall.Fstatfs(int(file.Fd()), &vfs); err != nil {
		return nil, err
	}
	return &sftp.StatVFS{
		Bsize: uint64(vfs.Bsize), Frsize: uint64(vfs.Frsize), Blocks: vfs.Blocks, Bfree: vfs.Bfree, Bavail: vfs.Bavail,
		Files: vfs.Files, Ffree: vfs.Ffree, Favail: vfs.Ffree, Namemax: uint64(vfs.Namelen),
	}, nil
}

// Filelist lists a directory or describes what a path leads to.
func (f *files) Filelist(r *sftp.Request) (sftp.ListerAt, error) {
	name := within(r.Filepath)
	if r.Method != "List" {
		info, err := f.root.Stat(name)
		return infos{info}, err
	}
	dir, err := f.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	list, err := dir.Readdir(-1)
	return infos(list), err
}

// Lstat describes an entry, a symbolic link as itself.
func (f *files) Lstat(r *sftp.Request) (sftp.ListerAt, error) {
	info, err := f.root.Lstat(within(r.Filepath))
	return infos{info}, err
}

// infos is a list that can be read in pieces.
type infos []os.FileInfo

func (l infos) ListAt(to []os.FileInfo, offset int64) (int, error) {
	if offset >= int64(len(l)) {
		return 0, io.EOF
	}
	n := copy(to, l[offset:])
	if n < len(to) {
		return n, io.EOF
	}
	return n, nil
}
