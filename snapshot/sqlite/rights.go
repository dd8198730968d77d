package sqlite

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// rights are whose permissions SQLite works with while it opens a live database.
// It makes the -wal and the -shm by path, after the database itself was opened and
// compared: whoever owns the directory can have exchanged it for a link by then,
// and root would make a file of the application's in any directory.
type rights struct{ uid, gid int }

// rights returns those of whoever can write the directory of a live database. Where
// only root can, nobody exchanges anything.
func (l Live) rights(file tree.Info) (rights, error) {
	dir, err := l.Dir.Info()
	if err != nil {
		return rights{}, err
	}
	if dir.UID == 0 && dir.Mode&0o022 != 0 {
		return rights{file.UID, dir.GID}, nil
	}
	return rights{dir.UID, dir.GID}, nil
}

// do calls f with these rights, when root calls it, and with root's permission to
// read and to search: the application may reach its directory in another way, as
// by a bind mount. Without CAP_SETUID, and for anybody else, f is only called.
func (r rights) do(f func() error) error {
	if os.Geteuid() != 0 || r.uid == 0 {
		return f()
	}
	// Both are of the thread, and are put back before another goroutine uses it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	gid, _ := unix.SetfsgidRetGid(r.gid)
	uid, _ := unix.SetfsuidRetUid(r.uid) // takes away the capabilities over files
	defer func() {
		_, _ = unix.SetfsuidRetUid(uid) // and gives them back
		_, _ = unix.SetfsgidRetGid(gid)
	}()
	if err := keepReading(); err != nil {
		return err
	}
	return f()
}

// keepReading raises CAP_DAC_READ_SEARCH again in this thread, where that is permitted.
func keepReading() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	data[0].Effective |= data[0].Permitted & (1 << unix.CAP_DAC_READ_SEARCH)
	return unix.Capset(&header, &data[0])
}
