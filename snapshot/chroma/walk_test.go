package chroma

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
)

func TestWalk(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"seg/empty", restorePrefix + "20260407T060000Z/seg"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{
		databaseName,
		databaseName + "-journal",
		"seg/" + headerName,
		restorePrefix + "20260407T060000Z/x",
	} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte("12345"), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../"+databaseName, filepath.Join(dir, "seg/link")); err != nil {
		t.Fatal(err)
	}
	entries, err := Walk(dirAt(dir))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, string(e.Type)+" "+e.Path+" "+e.Target)
		if e.UID != uint32(os.Geteuid()) || e.Inode == 0 || e.MTime.IsZero() {
			t.Errorf("entry %+v", e)
		}
		if e.Type == TypeFile && (e.Size != 5 || e.Mode != 0o640) {
			t.Errorf("entry %+v", e)
		}
	}
	want := []string{
		"file chroma.sqlite3 ",
		"file chroma.sqlite3-journal ",
		"dir seg ",
		"dir seg/empty ",
		"file seg/header.bin ",
		"symlink seg/link ../chroma.sqlite3",
	}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("entries %q\nwant    %q", got, want)
	}
}

func TestWalkRefusesByName(t *testing.T) {
	link := func(target string) func(string) error {
		return func(path string) error { return os.Symlink(target, path) }
	}
	for name, c := range map[string]struct {
		make func(path string) error
		why  string
	}{
		"a FIFO": {func(path string) error { return unix.Mkfifo(path, 0o600) }, "it is a FIFO"},
		"a socket": {
			func(path string) error { l, err := net.Listen("unix", path); keep(t, l); return err },
			"it is a socket",
		},
		"an absolute link":   {link("/etc/passwd"), "a link to /etc/passwd, outside the directory"},
		"a link up":          {link("../../outside"), "outside the directory"},
		"a link to dir/..":   {link("other/../../outside"), "outside the directory"},
		"a link past itself": {link("../seg/../../outside"), "outside the directory"},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "seg", "odd")
		if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := c.make(path); err != nil {
			t.Fatal(name, err)
		}
		_, err := Walk(dirAt(dir))
		if failure.KindOf(err) != failure.Refused || !strings.Contains(err.Error(), path) ||
			!strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func keep(t *testing.T, l net.Listener) {
	if l != nil {
		t.Cleanup(func() { l.Close() })
	}
}

func TestStaysInside(t *testing.T) {
	for _, c := range []struct {
		name, target string
		want         bool
	}{
		{"a", "b", true},
		{"a", "./b/c/", true},
		{"s/a", "../b", true},
		{"s/a", "..", true},
		{"s/t/a", "../../b", true},
		{"a", "", false},
		{"a", "..", false},
		{"a", "/b", false},
		{"s/a", "../..", false},
		{"s/a", "../../b", false},
		{"s/a", "b/../c", false}, // b may be a link itself
	} {
		if got := staysInside(c.name, c.target); got != c.want {
			t.Errorf("%s -> %s: %v", c.name, c.target, got)
		}
	}
}

func TestWalkNamesWhatNoManifestCanHold(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "caf\xe9.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Walk(dirAt(dir))
	if failure.KindOf(err) != failure.Refused || !strings.Contains(err.Error(), `"caf\xe9.txt" is not UTF-8`) {
		t.Errorf("%v", err)
	}
}
