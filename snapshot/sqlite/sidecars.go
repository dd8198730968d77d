package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// fileState is what a change of a file shows in.
type fileState struct {
	exists bool
	id     tree.ID
	size   int64
	mtime  int64 // nanoseconds
	owner  int
}

// stateOf looks at a file of this program without opening it. A missing one is no error.
func stateOf(path string) (fileState, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fileState{}, nil
	}
	if err != nil {
		return fileState{}, err
	}
	stat := info.Sys().(*syscall.Stat_t)
	return fileState{exists: true, id: tree.ID{Dev: stat.Dev, Ino: stat.Ino}, size: info.Size(),
		mtime: info.ModTime().UnixNano(), owner: int(stat.Uid)}, nil
}

// access is how a WAL database can be read without harm to its application.
type access int

const (
	accessNormal    access = iota // through SQLite
	accessQuiescent               // raw, because there is no WAL and nobody uses it
	accessRefused                 // not at all
)

// chooseAccess keeps this process from locking the application out. A
// connection to a WAL database makes the -wal and -shm files that are missing,
// and they stay. They get the database's owner only when SQLite runs as root
// and may change owners; otherwise they belong to this process and the
// application can no longer write its own database. So a process whose files
// would be foreign never makes them. A -wal without content holds nothing, and
// without a -shm nobody has the database open.
func chooseAccess(foreign bool, wal, shm fileState) access {
	switch {
	case !foreign || wal.exists && shm.exists:
		return accessNormal
	case wal.size == 0:
		return accessQuiescent
	default:
		return accessRefused
	}
}

// foreign reports whether files that SQLite makes for this process would belong to
// somebody else than the database's owner.
func foreign(owner int) bool {
	return os.Geteuid() != owner && !(os.Geteuid() == 0 && mayChown())
}

// mayChown reports whether this thread has CAP_CHOWN.
func mayChown() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_CHOWN) != 0
}

// access applies chooseAccess to what stands beside the source.
func (s source) access() (access, error) {
	if !s.header.wal() || !foreign(s.owner()) {
		return accessNormal, nil
	}
	wal, err := s.state(walSuffix)
	if err != nil {
		return accessRefused, err
	}
	shm, err := s.state(shmSuffix)
	if err != nil {
		return accessRefused, err
	}
	chosen := chooseAccess(true, wal, shm)
	if chosen == accessRefused {
		return chosen, fail(
			s.Path(),
			failure.Refused,
			fmt.Errorf(
				"there is a -wal but no -shm, and one made by uid %d would keep the application (uid %d) from writing",
				os.Geteuid(),
				s.owner(),
			),
			fmt.Sprintf("run as uid %d or as root with CAP_CHOWN, or start the application once", s.owner()),
		)
	}
	return chosen, nil
}

// returnSidecars looks for files of this process beside the source, which come
// about when the application closed it between access and the open, and gives
// them to the owner.
func (s source) returnSidecars() error {
	for _, suffix := range []string{walSuffix, shmSuffix} {
		state, err := s.state(suffix)
		if err != nil {
			return err
		}
		if !state.exists || state.owner != os.Geteuid() || state.owner == s.owner() {
			continue
		}
		if err := s.Dir.Chown(s.Name+suffix, state.id, s.owner(), -1); err != nil {
			return fail(
				s.Path()+suffix,
				failure.Refused,
				fmt.Errorf(
					"it belongs to uid %d and keeps the application (uid %d) from writing: %w",
					state.owner,
					s.owner(),
					err,
				),
				fmt.Sprintf("stop the application, chown the file to uid %d, start the application", s.owner()),
			)
		}
	}
	return nil
}
