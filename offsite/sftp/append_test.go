package sftp

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pkg/sftp"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/offsite/remotetest"
	"github.com/atocore/atobackupd/offsite/sftp/sshdtest"
)

// appendOnlyServer serves a vault to an account that may only add.
func appendOnlyServer(t *testing.T) (*sshdtest.Server, Config) {
	t.Helper()
	s := sshdtest.Start(t, sshdtest.Options{User: "backup", AppendOnly: true})
	s.MakeVault(s.Dir)
	cfg := configFor(s)
	cfg.AppendOnly = true
	return s, cfg
}

func TestAppendOnlyContract(t *testing.T) {
	t.Parallel()
	s, cfg := appendOnlyServer(t)
	remotetest.Run(t, func(t *testing.T, root string) offsite.Remote {
		s.MakeVault(root)
		cfg.Path = root
		return dial(t, cfg)
	}, remotetest.Options{AppendOnly: true})
}

// Whatever a stolen key asks for, what is there stays as it is.
func TestAppendOnlyCannotChange(t *testing.T) {
	ctx := context.Background()
	_, cfg := appendOnlyServer(t)
	r := dial(t, cfg)
	if _, err := r.Put(ctx, "packs/one", strings.NewReader("precious")); err != nil {
		t.Fatal(err)
	}
	one := filepath.Join(cfg.Path, "packs", "one")
	c := r.client
	open := func(flags int) error {
		f, err := c.OpenFile(one, flags)
		if err == nil {
			f.Write([]byte("spoiled"))
			f.Close()
		}
		return err
	}
	other, err := c.OpenFile(filepath.Join(cfg.Path, "packs", "other"), os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		t.Fatal(err)
	}
	other.Close()
	for what, err := range map[string]error{
		"open for writing":  open(os.O_WRONLY),
		"open and truncate": open(os.O_WRONLY | os.O_TRUNC),
		"open and append":   open(os.O_WRONLY | os.O_APPEND),
		"create over":       open(os.O_RDWR | os.O_CREATE | os.O_TRUNC),
		"truncate":          c.Truncate(one, 0),
		"chmod":             c.Chmod(one, 0o600),
		"remove":            c.Remove(one),
		"rename":            c.Rename(one, one+".gone"),
		"rename over":       c.Rename(other.Name(), one),
		"posix rename over": c.PosixRename(other.Name(), one),
		"link over":         c.Link(other.Name(), one),
		"symlink over":      c.Symlink(other.Name(), one),
		"remove directory":  c.RemoveDirectory(filepath.Dir(one)),
	} {
		if err == nil {
			t.Errorf("%s is allowed", what)
		}
	}
	if data, err := os.ReadFile(one); err != nil || string(data) != "precious" {
		t.Errorf("the object holds %q, %v", data, err)
	}
}

// A vault that was not prepared on its machine says how to do that.
func TestAppendOnlyNeedsDirectories(t *testing.T) {
	_, cfg := appendOnlyServer(t)
	if err := os.Remove(filepath.Join(cfg.Path, "incoming")); err != nil {
		t.Fatal(err)
	}
	_, err := dial(t, cfg).Put(context.Background(), "packs/one", strings.NewReader("data"))
	if failure.KindOf(err) != failure.NotFound ||
		!strings.Contains(err.Error(), "atobackupd vault init --dir "+cfg.Path) {
		t.Errorf("Put without incoming/: %v", err)
	}
	cfg.Path = filepath.Join(cfg.Path, "absent")
	_, err = dial(t, cfg).Put(context.Background(), "packs/one", strings.NewReader("data"))
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "vault init --dir "+cfg.Path) {
		t.Errorf("Put without a root: %v", err)
	}
}

// lenient starts the Go library's server: no fsync, a rename that replaces.
func lenient(t *testing.T, root string) *Remote {
	t.Helper()
	here, there := net.Pipe()
	server, err := sftp.NewServer(there)
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve()
	cfg, err := Config{Hosts: []string{"lenient"}, Path: root, KnownHosts: "none"}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	r, err := newRemote(
		context.Background(), "lenient", link{Reader: here, WriteCloser: here, kill: func() { here.Close() }},
		cfg,
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// A server that cannot flush is lived with; its replacing rename replaces nothing.
func TestServerWithoutFsync(t *testing.T) {
	ctx := context.Background()
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "there"), []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := lenient(t, root)
	if _, err := r.Put(ctx, "one", strings.NewReader("data")); err != nil {
		t.Fatal(err)
	}
	if err := r.Move(ctx, "one", "there"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Move onto an existing name: %v", err)
	}
	if data, _ := os.ReadFile(filepath.Join(root, "there")); string(data) != "before" {
		t.Errorf("the object holds %q", data)
	}
}
