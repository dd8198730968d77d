package snapshot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/atocore/atobackupd/internal/fsx"
)

// quarantineMost is how many failed takes are kept for a look at them: one that
// fails every hour must not fill the disk with copies of the same damage.
const quarantineMost = 2

// failedTake is one directory in quarantine/.
type failedTake struct {
	name  string // its stamp
	bytes int64
}

// BoundQuarantine removes failed takes, the oldest first, until no more than the
// newest two are left and these hold no more than limit bytes. The newest stays,
// whatever it holds. The caller holds the main lock.
func (s *Store) BoundQuarantine(limit int64) (removed []string, err error) {
	entries, err := os.ReadDir(s.quarantine())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []failedTake
	for _, entry := range entries {
		if _, err := ParseStamp(entry.Name()); err == nil && entry.IsDir() {
			list = append(list, failedTake{entry.Name(), bytesBelow(filepath.Join(s.quarantine(), entry.Name()))})
		}
	}
	for _, name := range surplus(list, limit) {
		if removeErr := fsx.RemoveAll(filepath.Join(s.quarantine(), name)); removeErr != nil {
			err = errors.Join(err, removeErr)
			continue
		}
		removed = append(removed, name)
	}
	return removed, err
}

// surplus returns the failed takes that are to go, oldest first.
func surplus(list []failedTake, limit int64) (gone []string) {
	newestFirst := slices.SortedFunc(
		slices.Values(list),
		func(a, b failedTake) int { return strings.Compare(b.name, a.name) },
	)
	var held int64
	for i, take := range newestFirst {
		held += take.bytes
		if i > 0 && (i >= quarantineMost || held > limit) {
			gone = append(gone, take.name)
		}
	}
	slices.Reverse(gone)
	return gone
}

// LiveBytes returns how large the live artifacts are, as far as they are there and
// may be looked at.
func LiveBytes(src Sources) int64 {
	from, err := openSources(src, src.Chroma != "", nil)
	if err != nil {
		return 0
	}
	defer from.close()
	sum, _ := (&Store{}).estimate(from, TakeOptions{Share: ShareCopy})
	return sum - sizeIn(from.db.Dir, from.db.Name+"-wal") // which a copy needs twice
}

// bytesBelow adds up the regular files at or below a path; what cannot be read
// adds nothing, and no link is followed.
func bytesBelow(path string) (sum int64) {
	_ = filepath.WalkDir(path, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			if info, err := entry.Info(); err == nil {
				sum += info.Size()
			}
		}
		return nil
	})
	return sum
}
