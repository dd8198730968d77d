package sqlite

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// SQLite locks bytes behind the first gigabyte: one pending byte, one reserved
// byte and 510 shared ones.
const (
	lockStart  = 0x40000000
	lockLength = 512
)

// lockHolder says, for people, which process keeps readers out of a database.
// A process of another container has no number here. No connection of this
// process may be open on it.
func (l Live) lockHolder() string {
	const unknown = "another process holds the database"
	f, err := l.raw("")
	if err != nil {
		return unknown
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_RDLCK, Start: lockStart, Len: lockLength}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil || lock.Type == unix.F_UNLCK || lock.Pid <= 0 {
		return unknown
	}
	command, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", lock.Pid))
	if err != nil {
		return fmt.Sprintf("pid %d holds the database", lock.Pid)
	}
	return fmt.Sprintf("pid %d (%s) holds the database", lock.Pid, strings.TrimSpace(string(command)))
}
