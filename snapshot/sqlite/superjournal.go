package sqlite

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// superMagic ends a rollback journal that names a super-journal: the last eight
// bytes of the record that SQLite looks for at the end of the file
// (https://www.sqlite.org/fileformat2.html#the_rollback_journal).
const superMagic = "\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"

// errSuperJournal is of a journal of a transaction over several databases. SQLite
// would open the file that it names, any path of the file system, and wait for a
// FIFO there for ever; and without it nobody knows whether that transaction was
// committed.
var errSuperJournal = errors.New("its journal belongs to a transaction over several databases, which only its " +
	"application can settle: start it once, and stop it in order")

// refuseSuperJournal refuses to let SQLite settle a private copy whose journal
// names a super-journal.
func refuseSuperJournal(path string) error {
	f, err := os.OpenFile(path+journalSuffix, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil || size < int64(len(superMagic)) {
		return err
	}
	end := make([]byte, len(superMagic))
	if _, err := f.ReadAt(end, size-int64(len(end))); err != nil {
		return err
	}
	if string(end) == superMagic {
		return fmt.Errorf("%s: %w", path, errSuperJournal)
	}
	return nil
}
