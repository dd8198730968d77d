package offsite

import (
	"context"
	"errors"
	"io"
	"time"
)

// Entry describes one object of a Remote.
type Entry struct {
	Name  string // the last element of its path
	Size  int64  // bytes
	MTime time.Time
	Dir   bool
	Other bool // neither a file nor a directory: a link, a pipe, a device
}

// IsFile reports whether the entry is a plain file, which every object is.
func (e Entry) IsFile() bool { return !e.Dir && !e.Other }

// Remote is the storage a vault lies on. Names are slash-separated, relative
// to the vault's root, and never leave it. Methods may be called from several
// goroutines at once. Errors are *failure.Error with Kind Unreachable, Auth,
// HostKey, NoSpace or NotFound where that is what happened; errors.Is(err,
// fs.ErrNotExist) and fs.ErrExist hold where they apply.
type Remote interface {
	// List returns the entries of one directory, sorted by name, without "." and
	// "..". A missing directory is fs.ErrNotExist.
	List(ctx context.Context, dir string) ([]Entry, error)
	// Stat describes one object without following a symbolic link at its end.
	Stat(ctx context.Context, name string) (Entry, error)
	// Open reads an object from its first byte. The caller closes it.
	Open(ctx context.Context, name string) (io.ReadCloser, error)
	// Put stores r's bytes under name and returns their count. nil means that the
	// object survives a power cut on the other side: written to incoming/, its
	// size checked, fsynced, published under name without replacing anything,
	// its directory fsynced. An existing name is fs.ErrExist and stays as it
	// was; a failed Put leaves nothing under name. Of a name that ends in
	// ".age" the first bytes are read back before it is published, and must
	// be an age header: nothing leaves in the clear. Missing parent directories
	// are made.
	Put(ctx context.Context, name string, r io.Reader) (int64, error)
	// Move renames an object durably. It never replaces: an existing
	// destination is fs.ErrExist.
	Move(ctx context.Context, from, to string) error
	// Remove deletes one object or empty directory durably.
	Remove(ctx context.Context, name string) error
	// Free returns the bytes that may still be written, or -1 where the other
	// side cannot say.
	Free(ctx context.Context) (int64, error)
	// Close ends the connection. Methods fail after it.
	Close() error
}

// ErrLocked is why an object cannot be removed or moved yet: the service keeps it
// for a time, whoever asks.
var ErrLocked = errors.New("locked against removal")

// Retainer is a Remote whose service keeps objects from whoever has this
// machine's key: for a time it removes nothing, and what somebody hides or writes
// over it still has. Remove and Move of what is locked fail with ErrLocked and
// change nothing.
type Retainer interface {
	Remote
	// Retain makes the locks of the named objects last: the caller names all that
	// a wanted snapshot needs, after each push, and those whose lock has less than
	// half of its time left are lengthened. The others cost nothing.
	Retain(ctx context.Context, names []string) error
	// Removable returns ErrLocked where the object's lock has not ended.
	Removable(ctx context.Context, name string) error
	// Tampering returns, by name, what List, Stat and Open have met on this
	// connection that somebody else did to objects which are still there: they
	// were read as they were put.
	Tampering() []Tampered
	// Uncover removes what others have put over an object.
	Uncover(ctx context.Context, name string) error
}

// Clock is a Remote that says what time it is there, which otherwise takes an
// object that is made for it.
type Clock interface {
	Time() time.Time
}

// Tampered is an object that somebody hid, or wrote over, in vain.
type Tampered struct {
	Name string
	What string // a clause, with the time
}
