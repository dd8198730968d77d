package sftp

import (
	"errors"
	"io/fs"
	"reflect"

	"github.com/pkg/sftp"
)

// client is the library's, less one trust in the server: where a server says OK
// instead of what it was asked for, the library returns neither that nor an error.
type client struct{ *sftp.Client }

func (c client) Lstat(path string) (fs.FileInfo, error) { return described(c.Client.Lstat(path)) }
func (c client) Stat(path string) (fs.FileInfo, error)  { return described(c.Client.Stat(path)) }
func (c client) Open(path string) (*sftp.File, error)   { return given(c.Client.Open(path)) }

func (c client) OpenFile(path string, flags int) (*sftp.File, error) {
	return given(c.Client.OpenFile(path, flags))
}

func (c client) StatVFS(path string) (*sftp.StatVFS, error) { return given(c.Client.StatVFS(path)) }

var errNoAnswer = errors.New("the server says that it is done, and does not give what it was asked for")

func given[T any](answer *T, err error) (*T, error) {
	if err == nil && answer == nil {
		err = errNoAnswer
	}
	return answer, err
}

// described is given for what describes a file, by the library's own structure.
func described(info fs.FileInfo, err error) (fs.FileInfo, error) {
	if err == nil && (info == nil || reflect.ValueOf(info.Sys()).IsNil()) {
		return nil, errNoAnswer
	}
	return info, err
}
