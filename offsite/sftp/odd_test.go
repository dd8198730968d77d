package sftp

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pkg/sftp"
)

// oddServer serves one file, but never more than 1000 bytes of it at once, and
// lists a name that no directory has.
type oddServer struct{ data []byte }

func (o oddServer) Fileread(*sftp.Request) (io.ReaderAt, error)  { return o, nil }
func (o oddServer) Filewrite(*sftp.Request) (io.WriterAt, error) { return nil, fs.ErrPermission }
func (o oddServer) Filecmd(*sftp.Request) error                  { return fs.ErrPermission }

func (o oddServer) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(o.data).ReadAt(p[:min(1000, len(p))], off)
}

func (o oddServer) Filelist(r *sftp.Request) (sftp.ListerAt, error) {
	if r.Method == "List" {
		return listed{odd{name: "packs/.."}}, nil
	}
	return listed{odd{name: "file", size: int64(len(o.data))}}, nil
}

type listed []os.FileInfo

func (l listed) ListAt(to []os.FileInfo, offset int64) (int, error) {
	return copy(to, l[min(int(offset), len(l)):]), io.EOF
}

// odd is a file with any name.
type odd struct {
	name string
	size int64
}

func (o odd) Name() string       { return o.name }
func (o odd) Size() int64        { return o.size }
func (o odd) Mode() fs.FileMode  { return 0o600 }
func (o odd) ModTime() time.Time { return time.Time{} }
func (o odd) IsDir() bool        { return false }
func (o odd) Sys() any           { return nil }

func serveOdd(t *testing.T, o oddServer) *Remote {
	t.Helper()
	here, there := net.Pipe()
	go sftp.NewRequestServer(there, sftp.Handlers{FileGet: o, FilePut: o, FileCmd: o, FileList: o}).Serve()
	cfg, err := Config{Hosts: []string{"odd"}, Path: "/", KnownHosts: "none"}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	r, err := newRemote(
		context.Background(), "odd", link{Reader: here, WriteCloser: here, kill: func() { here.Close() }}, cfg,
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// An answer that is shorter than was asked for is not the end of the file.
func TestShortAnswersLoseNothing(t *testing.T) {
	want, err := io.ReadAll(random(300_001))
	if err != nil {
		t.Fatal(err)
	}
	f, err := serveOdd(t, oddServer{want}).Open(context.Background(), "file")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %d of %d bytes, %v", len(got), len(want), err)
	}
}

func TestImpossibleNameIsRefused(t *testing.T) {
	entries, err := serveOdd(t, oddServer{}).List(context.Background(), ".")
	if err == nil || !strings.Contains(err.Error(), "impossible name") {
		t.Errorf("List = %v, %v", entries, err)
	}
}
