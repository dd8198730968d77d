package fsx

import (
	"sync"
	"sync/atomic"
)

// Op names a kind of file-changing call, for fault injection.
type Op string

// The calls that are announced before they happen.
const (
	OpCreate  Op = "create"
	OpWrite   Op = "write"
	OpCopy    Op = "copy"
	OpSync    Op = "fsync"
	OpSyncDir Op = "fsync-dir"
	OpRename  Op = "rename"
	OpMkdir   Op = "mkdir"
	OpRemove  Op = "remove"
	OpLink    Op = "link"
)

// observer is consulted before every file-changing call; nil outside tests.
var observer atomic.Pointer[func(Op, string) error]

// Observe has fn called before every file-changing call of this package; when
// it returns an error the call is not made and fails with it. Calls of several
// goroutines ask it one after the other; fn itself must make none. It exists for
// package fsxtest and affects the whole process. The returned function ends it.
func Observe(fn func(Op, string) error) (stop func()) {
	var asking sync.Mutex
	oneByOne := func(op Op, path string) error {
		asking.Lock()
		defer asking.Unlock()
		return fn(op, path)
	}
	observer.Store(&oneByOne)
	return func() { observer.Store(nil) }
}

// Announce lets another package's file-changing call take part in fault
// injection, as this package's own calls do.
func Announce(op Op, path string) error { return announce(op, path) }

func announce(op Op, path string) error {
	if fn := observer.Load(); fn != nil {
		return (*fn)(op, path)
	}
	return nil
}
