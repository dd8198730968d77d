package offsite

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/atocore/atobackupd/crypt"
)

// What every Remote keeps to, whatever it is made of.

// IncomingDir holds uploads under way; they are moved out of it.
const IncomingDir = incomingDir

// ValidName reports whether name is a plain path at or below a Remote's root: no
// "..", no leading slash, no NUL.
func ValidName(name string) bool {
	return fs.ValidPath(name) && !strings.ContainsRune(name, 0)
}

// ErrInTheClear is what CheckSealed refuses.
var ErrInTheClear = errors.New("refused: it does not begin with an age header, so it may be in the clear")

// CheckSealed reads the first bytes of what is to be stored under a name that ends
// in ".age": they must be an age header, or something was about to leave in the
// clear.
func CheckSealed(f io.ReaderAt) error {
	head := make([]byte, crypt.HeaderLen)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return err
	}
	if !crypt.IsHeader(head[:n]) {
		return ErrInTheClear
	}
	return nil
}

// NewLimiter spreads uploads over time; nil for no limit. A tenth of a second's
// worth may go at once, and at least one packet of SFTP's.
func NewLimiter(bytesPerSecond int64) *rate.Limiter {
	if bytesPerSecond == 0 {
		return nil
	}
	burst := min(max(bytesPerSecond/10, 32<<10), 1<<30)
	return rate.NewLimiter(rate.Limit(bytesPerSecond), int(burst))
}

// Bounds of one listing, far above what a vault has: a service that never ends
// one fills neither the memory nor a job's time.
const (
	MaxEntries  = 1_000_000
	MaxNames    = 64 << 20 // bytes of all their names
	ListTimeout = 15 * time.Minute
)

// ErrEndless is a listing beyond the bounds.
var ErrEndless = fmt.Errorf("the listing has more than %d names, or more than %d MiB of them: it is not read",
	MaxEntries, MaxNames>>20)

// Listing gathers the entries of one directory within the bounds.
type Listing struct {
	entries []Entry
	names   int // bytes of their names
}

// Add takes an entry, or refuses it: one too many, or of a name that leads
// somewhere else than into the directory.
func (l *Listing) Add(e Entry) error {
	if e.Name == "." || strings.Contains(e.Name, "/") || !ValidName(e.Name) {
		return fmt.Errorf("the impossible name %q is listed", e.Name)
	}
	l.names += len(e.Name)
	if len(l.entries) == MaxEntries || l.names > MaxNames {
		return ErrEndless
	}
	l.entries = append(l.entries, e)
	return nil
}

// Sorted returns the entries by name.
func (l *Listing) Sorted() []Entry {
	slices.SortFunc(l.entries, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return l.entries
}
