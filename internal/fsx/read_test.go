package fsx_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/atocore/atobackupd/internal/fsx"
)

// Only a regular file of a bounded size is read, and nobody is waited for.
func TestReadRegular(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for name, err := range map[string]error{
		"file":  os.WriteFile(path("file"), []byte("12345678"), 0o600),
		"large": os.WriteFile(path("large"), []byte("123456789"), 0o600),
		"link":  os.Symlink(path("file"), path("link")),
		"pipe":  syscall.Mkfifo(path("pipe"), 0o600),
		"dir":   os.Mkdir(path("dir"), 0o700),
	} {
		if err != nil {
			t.Fatal(name, err)
		}
	}
	for name, want := range map[string]string{
		"file": "", "large": "has 9 bytes", "link": "is a symbolic link", "pipe": "is not a regular file",
		"dir": "is not a regular file", "none": "no such file",
	} {
		data, err := fsx.ReadRegular(path(name), 8)
		switch {
		case want == "" && (err != nil || string(data) != "12345678"):
			t.Errorf("%s: %q, %v", name, data, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}
