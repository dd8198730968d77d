package tree

import (
	"errors"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/escape"
)

// What can be wrong with an entry besides what the kernel says.
var (
	// ErrSymlink is a symbolic link where none is followed.
	ErrSymlink = errors.New("is, or lies behind, a symbolic link, which is not followed here")
	// ErrSwapped is a name that leads to something else than was made or seen.
	ErrSwapped = errors.New("was exchanged for something else meanwhile")
	// ErrNotRegular is a directory, device, socket or FIFO instead of a file.
	ErrNotRegular = errors.New("is not a regular file")
	// ErrHardLink is a file with several names, one of which may lie elsewhere.
	ErrHardLink = errors.New("has several names (hard links), so that writing it could change a file elsewhere")
	// ErrTooLarge is a file beyond the size that its reader accepts.
	ErrTooLarge = errors.New("is larger than is read here")
)

// err returns an *fs.PathError that names the entry; nil stays nil, and what
// names a path already stays as it is.
func (d *Dir) err(op, name string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.ELOOP) {
		err = symlinkError{}
	}
	if _, named := err.(*fs.PathError); named {
		return err
	}
	return &fs.PathError{Op: op, Path: escape.String(d.Name(name)), Err: err}
}

// symlinkError is ErrSymlink that is still the kernel's ELOOP.
type symlinkError struct{}

func (symlinkError) Error() string   { return ErrSymlink.Error() }
func (symlinkError) Unwrap() []error { return []error{ErrSymlink, unix.ELOOP} }

func itoa(n int) string { return strconv.Itoa(n) }

// file makes an *os.File of a descriptor.
func (d *Dir) file(fd int, name string) *os.File { return os.NewFile(uintptr(fd), d.Name(name)) }
