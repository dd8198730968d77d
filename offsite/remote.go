package offsite

import (
	"context"
	"io"
	"time"
)

// Entry describes one object of a Remote.
type Entry struct {
	Name  string // the last element of its path
	Size  int64  // bytes
	MTime time.Time
	Dir   bool
}

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
