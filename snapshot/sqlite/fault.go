package sqlite

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
)

// errFault is of mapped memory that could not be read.
var errFault = errors.New("the disk did not give back a page of the file")

// guardFault runs read, which reads mapped files. A sector that cannot be read,
// or a file that is cut short meanwhile, then arrives as SIGBUS, which would end
// the process: one bad sector in one snapshot must not stop the daemon. It returns
// errFault instead, and whatever read was using is left as it was.
func guardFault(read func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch r := recover().(type) {
		case nil:
		case interface {
			runtime.Error
			Addr() uintptr
		}:
			err = fmt.Errorf("%w (address %#x)", errFault, r.Addr())
		default:
			panic(r)
		}
	}()
	return read()
}
