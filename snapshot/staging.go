package snapshot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot/chroma"
)

// Everything that this program makes in staging/ has a name that nobody else
// makes: a sweep removes these and nothing but these.
//
//	20260407T060000Z.3141592653          a take, and .link or .clone beside it for a moment
//	20260407T060000Z.prune-3141592653    a snapshot that is being removed
//	20260407T060000Z.healing, .metadata  a file of a snapshot that is being repaired
//	atobackupd-drill-…-3141592653        scratch space, see Scratch
//	.atobackupd.json.3141592653          a document before it is renamed into place
var stagedName = regexp.MustCompile(`^(?:` +
	`[0-9]{8}T[0-9]{6}Z\.(?:(?:prune-)?[0-9]+(?:\.(?:link|clone))?|healing|metadata)|` +
	`atobackupd-[a-z].*-[0-9]+|\.(?:backup-metadata|atobackupd|findings)\.json\.[0-9]+)$`)

// Scratch makes a new directory in staging/ for a piece of work named by
// purpose, such as "drill". Whoever makes it removes it; after a crash the next
// sweep does. The caller holds the main lock for as long as it is used.
func (s *Store) Scratch(purpose string) (dir string, err error) {
	return fsx.MkdirTemp(s.staging(), "atobackupd-"+purpose+"-", 0o700)
}

// Sweep removes what interrupted runs left in staging/, and goes on when one of
// them cannot be removed. Whatever this program did not make stays, and is
// returned as foreign; links are removed and not followed, and mounts are not
// entered. The caller holds the main lock: only then is everything there abandoned.
func (s *Store) Sweep() (removed, foreign []string, err error) { return s.SweepBeside("") }

// SweepBeside is Sweep that also removes the subvolume snapshots that a take
// left beside the live Chroma directory, which may be "".
func (s *Store) SweepBeside(liveChroma string) (removed, foreign []string, err error) {
	if err := s.checkOwnDirs(); err != nil {
		return nil, nil, err
	}
	volumes, volumesErr := chroma.SweepBtrfs(liveChroma, s.staging())
	removed, foreign, err = removeEntries(s.staging(), stagedName.MatchString)
	return append(volumes, removed...), foreign, errors.Join(volumesErr, err)
}

// SweepQuarantine removes what has been in quarantine/ for longer than keep.
func (s *Store) SweepQuarantine(now time.Time, keep time.Duration) (removed []string, err error) {
	removed, _, err = removeEntries(s.quarantine(), func(name string) bool {
		stamp, err := ParseStamp(name)
		return err == nil && now.Sub(stamp.Time()) > keep
	})
	return removed, err
}

// removeEntries removes the entries of dir that ours names, and returns the names
// of the others.
func removeEntries(dir string, ours func(name string) bool) (removed, others []string, err error) {
	d, err := tree.Open(dir, tree.Trusted(""))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	defer d.Close()
	entries, err := os.ReadDir(dir)
	for _, entry := range entries {
		name := entry.Name()
		if !ours(name) {
			others = append(others, name)
		} else if removeErr := d.RemoveAll(name); removeErr != nil {
			err = errors.Join(err, removeErr)
		} else {
			removed = append(removed, name)
		}
	}
	if len(removed) > 0 {
		err = errors.Join(err, d.Sync())
	}
	return removed, others, err
}

// checkOwnDirs refuses a store whose own directories are links: what is made or
// removed in them would be somewhere else.
func (s *Store) checkOwnDirs() error {
	for _, dir := range []string{s.snapshots(), s.staging(), s.quarantine()} {
		info, err := os.Lstat(dir)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
			continue // what is missing is told by whoever needs it
		}
		if err == nil && !info.IsDir() {
			err = fmt.Errorf("%s/ is %s, not a directory", filepath.Base(dir), nameOfType(info.Mode()))
		}
		if err != nil {
			return &failure.Error{Op: "backup.dir", Subject: s.dir, Kind: failure.Refused, Err: err,
				Hint: "move it away; to keep the backups on another disk, mount that disk at backup.dir or set " +
					"backup.dir to it"}
		}
	}
	return nil
}

func nameOfType(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeSymlink != 0:
		return "a symbolic link"
	case mode.IsRegular():
		return "a file"
	}
	return "a special file"
}
