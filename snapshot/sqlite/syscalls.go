package sqlite

import (
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// SQLite opens by path, and more than the database: the -journal before each
// transaction, the -wal and the -shm before the first. Whoever owns the directory
// can exchange it, or what lies in it, between any two of these. So the path of a
// live database leads through the handle of its directory (/proc/self/fd/N/name),
// which no exchange reaches, and two of SQLite's system calls are told about such
// paths: lstat, that there is no link in them to be resolved, and open, that it
// opens nothing but files, without waiting: a FIFO would have it wait for ever.
//
// Other paths, those of this program's own databases, are left as they are.

type (
	openCall func(tls *libc.TLS, path uintptr, flags, mode int32) int32
	statCall func(tls *libc.TLS, path, into uintptr) int32
)

// The calls as SQLite had them.
var (
	plainOpen             openCall
	plainStat, plainLstat statCall
)

// Before any connection is opened: SQLite reads its table of calls without a lock.
func init() {
	tls := libc.NewTLS()
	defer tls.Close()
	at := sqlite3.Xsqlite3_vfs_find(tls, 0)
	vfs := *(**sqlite3.Tsqlite3_vfs)(unsafe.Pointer(&at))
	get := function[func(tls *libc.TLS, vfs, name uintptr) uintptr](vfs.FxGetSystemCall)
	set := function[func(tls *libc.TLS, vfs, name, call uintptr) int32](vfs.FxSetSystemCall)
	named := func(name string) uintptr {
		text, err := libc.CString(name)
		if err != nil {
			panic(err)
		}
		return text
	}
	plainOpen = function[openCall](get(tls, at, named("open")))
	plainStat = function[statCall](get(tls, at, named("stat")))
	plainLstat = function[statCall](get(tls, at, named("lstat")))
	set(tls, at, named("open"), pointer(openCall(openLive)))
	set(tls, at, named("lstat"), pointer(statCall(lstatLive)))
}

// function and pointer convert between a Go function and what SQLite, translated to
// Go, keeps of one. Functions that a closure makes would be collected.
func function[F any](at uintptr) F { return *(*F)(unsafe.Pointer(&at)) }
func pointer[F any](f F) uintptr   { return *(*uintptr)(unsafe.Pointer(&f)) }

const throughHandle = "/proc/self/fd/" // as in tree.Dir.ProcPath

// openLive opens a file of a live database: without waiting, and for writing only
// where it has no other name, which could lie anywhere. That no link is followed is
// SQLite's own flag. A directory is opened to be flushed.
func openLive(tls *libc.TLS, path uintptr, flags, mode int32) int32 {
	if !strings.HasPrefix(libc.GoString(path), throughHandle) {
		return plainOpen(tls, path, flags, mode)
	}
	fd := plainOpen(tls, path, flags|unix.O_NONBLOCK, mode)
	if fd < 0 {
		return fd
	}
	var st unix.Stat_t
	err := unix.Fstat(int(fd), &st)
	kind := st.Mode & unix.S_IFMT
	writing := flags&unix.O_ACCMODE != unix.O_RDONLY
	if err == nil && (kind == unix.S_IFDIR || kind == unix.S_IFREG && (st.Nlink <= 1 || !writing)) {
		return fd
	}
	libc.Xclose(tls, fd)
	errno := libc.X__errno_location(tls)
	**(**int32)(unsafe.Pointer(&errno)) = int32(unix.EPERM)
	return -1
}

// lstatLive also answers for the elements above, by which SQLite makes a path
// without links.
func lstatLive(tls *libc.TLS, path, into uintptr) int32 {
	if name := libc.GoString(path); name == "/proc/self" || strings.HasPrefix(name, throughHandle) {
		return plainStat(tls, path, into)
	}
	return plainLstat(tls, path, into)
}
