package tree

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
)

// eachWay runs a test with openat2 and with the way of kernels that lack it.
func eachWay(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	for name, without := range map[string]bool{"openat2": false, "each element": true} {
		t.Run(name, func(t *testing.T) {
			withoutOpenat2.Store(without)
			defer withoutOpenat2.Store(false)
			test(t)
			if !without && withoutOpenat2.Load() {
				t.Error("openat2 was given up on a kernel that has it")
			}
		})
	}
}

// root opens a new directory.
func root(t *testing.T) *Dir {
	t.Helper()
	return open(t, t.TempDir())
}

func open(t *testing.T, path string) *Dir {
	t.Helper()
	d, err := Open(path, Trusted(""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func (d *Dir) put(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(d.Name(name)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.Name(name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// Every call that takes a name refuses one that leaves the directory, by words
// or by a link, and touches nothing there.
func TestNoNameLeavesTheDirectory(t *testing.T) {
	calls := map[string]func(d, other *Dir, name string) error{
		"open dir":   func(d, _ *Dir, name string) error { c, err := d.OpenDir(name); c.Close(); return err },
		"open file":  func(d, _ *Dir, name string) error { _, err := d.OpenFile(name); return err },
		"in place":   func(d, _ *Dir, name string) error { _, err := d.OpenInPlace(name); return err },
		"read":       func(d, _ *Dir, name string) error { _, err := d.ReadFile(name, 10); return err },
		"write":      func(d, _ *Dir, name string) error { return d.WriteFile(name, []byte("x"), 0o600) },
		"create":     func(d, _ *Dir, name string) error { _, err := d.Create(name, 0o600); return err },
		"mkdir":      func(d, _ *Dir, name string) error { _, err := d.Mkdir(name, 0o700); return err },
		"mkdir all":  func(d, _ *Dir, name string) error { _, err := d.MkdirAll(name, 0o700); return err },
		"symlink":    func(d, _ *Dir, name string) error { return d.Symlink("x", name) },
		"readlink":   func(d, _ *Dir, name string) error { _, err := d.Readlink(name); return err },
		"remove":     func(d, _ *Dir, name string) error { return d.Remove(name) },
		"remove all": func(d, _ *Dir, name string) error { return d.RemoveAll(name) },
		"rename":     func(d, o *Dir, name string) error { return d.Rename(name, o, "new", Replace) },
		"rename to":  func(d, o *Dir, name string) error { return o.Rename("mine", d, name, Replace) },
		"link":       func(d, o *Dir, name string) error { return o.Link(d, name, "new", ID{}) },
		"link to":    func(d, o *Dir, name string) error { return d.Link(o, "mine", name, ID{}) },
		"lstat":      func(d, _ *Dir, name string) error { _, err := d.Lstat(name); return err },
		"expect":     func(d, _ *Dir, name string) error { return d.Expect(name, ID{}) },
		"mount":      func(d, _ *Dir, name string) error { _, err := d.IsMount(name); return err },
		"attributes": func(d, _ *Dir, name string) error { _, err := d.Attributes(name); return err },
		"set": func(d, _ *Dir, name string) error {
			return d.SetAttributes(name, Attributes{Mode: 0o777}, true)
		},
		"give": func(d, _ *Dir, name string) error { return d.Give(name) },
	}
	eachWay(t, func(t *testing.T) {
		victim := root(t)
		victim.put(t, "file", "victim")
		victim.put(t, "sub/file", "victim")
		must(t, os.Symlink("file", victim.Name("link")))
		before := fsxtest.State(t, victim.path)
		d, other := root(t), root(t)
		d.put(t, "inner/file", "mine")
		must(t, os.Symlink(victim.path, d.Name("out")), os.Symlink("inner", d.Name("in")),
			os.Symlink("../..", d.Name("inner/up")))
		up := filepath.Join("..", filepath.Base(victim.path), "file")
		for name, call := range calls {
			for _, at := range []string{"", "/", "..", up, "inner/../../x", "inner/..", "./inner/file", "inner//file",
				victim.Name("file"), "a\x00b", "out/file", "out/sub", "out/sub/file", "out/none", "out/link", "in/file",
				"in/none", "inner/up/file"} {
				other.put(t, "mine", "mine")
				if err := call(d, other, at); err == nil {
					t.Errorf("%s of %q was done", name, at)
				} else if strings.HasPrefix(at, "out/") && !errors.Is(err, ErrSymlink) {
					t.Errorf("%s of %q: %v", name, at, err)
				}
			}
		}
		if after := fsxtest.State(t, victim.path); after != before {
			t.Errorf("the victim was\n%s\nand is\n%s", before, after)
		}
		if _, err := os.Lstat(d.Name("inner/none")); err == nil {
			t.Error("something was made behind an inner link")
		}
	})
}

// What a last element that is a link does: it is an entry like any other, and
// nothing is done to what it leads to.
func TestTheLastElementIsALink(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		victim := root(t)
		victim.put(t, "file", "victim")
		before := fsxtest.State(t, victim.path)
		d := root(t)
		link := func(name string) {
			_ = os.Remove(d.Name(name))
			must(t, os.Symlink(victim.Name("file"), d.Name(name)), os.RemoveAll(d.Name("dir")),
				os.Symlink(victim.path, d.Name("dir")))
		}
		link("link")
		for name, err := range map[string]error{
			"open":      func() error { _, err := d.OpenFile("link"); return err }(),
			"in place":  func() error { _, err := d.OpenInPlace("link"); return err }(),
			"read":      func() error { _, err := d.ReadFile("link", 10); return err }(),
			"open dir":  func() error { _, err := d.OpenDir("dir"); return err }(),
			"mkdir all": func() error { _, err := d.MkdirAll("dir/x", 0o700); return err }(),
		} {
			if !errors.Is(err, ErrSymlink) || !errors.Is(err, unix.ELOOP) || strings.Contains(err.Error(), "levels") {
				t.Errorf("%s: %v", name, err)
			}
		}
		for name, err := range map[string]error{
			"create": func() error { _, err := d.Create("link", 0o600); return err }(),
			"mkdir":  func() error { _, err := d.Mkdir("dir", 0o700); return err }(),
		} {
			if !errors.Is(err, fs.ErrExist) {
				t.Errorf("%s: %v", name, err)
			}
		}
		must(t, d.SetAttributes("link", Attributes{UID: 1000, GID: 1000}, true))
		if info, err := d.Lstat("link"); err != nil || !info.IsLink() || info.UID != 1000 {
			t.Errorf("%+v, %v", info, err)
		}
		if target, err := d.Readlink("link"); err != nil || target != victim.Name("file") {
			t.Errorf("%q, %v", target, err)
		}
		must(t, d.WriteFile("link", []byte("mine"), 0o600))
		if data, err := d.ReadFile("link", 4); err != nil || string(data) != "mine" {
			t.Errorf("%q, %v", data, err)
		}
		link("link")
		must(t, d.Rename("link", d, "moved", NoReplace), d.Remove("moved"), d.RemoveAll("dir"))
		if after := fsxtest.State(t, victim.path); after != before {
			t.Errorf("the victim was\n%s\nand is\n%s", before, after)
		}
		if tree := fsxtest.Tree(t, d.path); tree != ".\n" {
			t.Errorf("left\n%s", tree)
		}
	})
}

func TestMakeAndRead(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		old := syscall.Umask(0o077)
		defer syscall.Umask(old)
		d := root(t)
		made, err := d.Mkdir("a", 0o755)
		must(t, err)
		defer made.Close()
		deep, err := d.MkdirAll("a/b/c", 0o750)
		must(t, err)
		deep.Close()
		f, err := d.Create("a/b/c/file", 0o644)
		must(t, err)
		_, err = f.WriteString("text")
		must(t, err, f.Close(), d.Symlink("file", "a/b/c/link"))
		if _, err := d.Create("a/b/c/file", 0o644); !errors.Is(err, fs.ErrExist) {
			t.Errorf("twice: %v", err)
		}
		info, err := d.Lstat("a/b/c/file")
		must(t, err)
		if !info.IsRegular() || info.Mode != 0o644 || info.Size != 4 || info.Links != 1 || info.Name != "file" {
			t.Errorf("%+v", info)
		}
		must(t, d.Link(d, "a/b/c/file", "hard", info.ID))
		if err := d.Link(d, "a/b/c/file", "hard2", ID{1, 2}); !errors.Is(err, ErrSwapped) {
			t.Errorf("a link to another file: %v", err)
		}
		if _, err := d.OpenInPlace("hard"); !errors.Is(err, ErrHardLink) {
			t.Errorf("a file of two names, in place: %v", err)
		}
		if data, err := d.ReadFile("hard", 4); err != nil || string(data) != "text" {
			t.Errorf("%q, %v", data, err)
		}
		if _, err := d.ReadFile("hard", 3); !errors.Is(err, ErrTooLarge) {
			t.Errorf("beyond the limit: %v", err)
		}
		must(t, d.Remove("hard"))
		out, err := d.OpenInPlace("a/b/c/file")
		must(t, err)
		if _, err := out.WriteAt([]byte("T"), 0); err != nil {
			t.Error(err)
		}
		must(t, out.Close(), d.Sync(), d.SyncFileSystem(), d.CheckPlace(Trusted("")))
		var seen []string
		must(t, d.Walk(true, func(n Node, err error) error {
			seen = append(seen, n.Path)
			return err
		}))
		slices.Sort(seen)
		if want := []string{"a", "a/b", "a/b/c", "a/b/c/file", "a/b/c/link"}; !slices.Equal(seen, want) {
			t.Errorf("walked %q", seen)
		}
		for name, want := range map[string]fs.FileMode{"a": 0o755, "a/b": 0o750, "a/b/c": 0o750} {
			if info, err := os.Stat(d.Name(name)); err != nil || info.Mode().Perm() != want {
				t.Errorf("%s: %v, %v", name, info.Mode(), err)
			}
		}
		if d.Expect("a", made.ID()) != nil || !errors.Is(d.Expect("a/b", made.ID()), ErrSwapped) {
			t.Error("Expect compares nothing")
		}
		must(t, d.RemoveAll("a"), d.RemoveAll("a"), d.RemoveAll("none/at/all"))
		if tree := fsxtest.Tree(t, d.path); tree != ".\n" {
			t.Errorf("left\n%s", tree)
		}
	})
}

// What is no regular file is refused at once, and nothing waits for its other
// end.
func TestOnlyRegularFilesAreOpened(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		d := root(t)
		must(t, syscall.Mkfifo(d.Name("fifo"), 0o600), os.Mkdir(d.Name("dir"), 0o700),
			syscall.Mknod(d.Name("tty"), syscall.S_IFCHR|0o600, 5<<8))
		socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		must(t, err)
		defer unix.Close(socket)
		must(t, unix.Bind(socket, &unix.SockaddrUnix{Name: d.Name("socket")}))
		for _, name := range []string{"fifo", "dir", "tty", "socket"} {
			if _, err := d.OpenFile(name); !errors.Is(err, ErrNotRegular) {
				t.Errorf("%s: %v", name, err)
			}
			if _, err := d.OpenInPlace(name); !errors.Is(err, ErrNotRegular) {
				t.Errorf("%s in place: %v", name, err)
			}
			err := d.SetAttributes(name, Attributes{Mode: 0o777}, false)
			if name != "dir" && !errors.Is(err, ErrNotRegular) {
				t.Errorf("attributes of %s: %v", name, err)
			}
		}
		if _, err := d.OpenFile("none"); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
}

// A size is asked for before anything is read, and a file that grows, or has no
// size at all, is read no further than the limit.
func TestReadingIsBounded(t *testing.T) {
	d := root(t)
	f, err := d.Create("huge", 0o600)
	must(t, err, f.Truncate(6<<30))
	if _, err := d.ReadFile("huge", 64<<20); !errors.Is(err, ErrTooLarge) ||
		!strings.Contains(err.Error(), d.Name("huge")) {
		t.Errorf("%v", err)
	}
	if at, err := f.Seek(0, io.SeekCurrent); err != nil || at != 0 {
		t.Errorf("%d bytes were read, %v", at, err)
	}
	must(t, f.Close())
	endless, err := os.Open("/dev/zero")
	must(t, err)
	defer endless.Close()
	if _, err := ReadAll(endless, 1<<20); !errors.Is(err, ErrTooLarge) {
		t.Errorf("without a size: %v", err)
	}
}

func TestRenameNoReplace(t *testing.T) {
	ways := map[string]func(d *Dir, from, to string) error{
		"renameat2": func(d *Dir, from, to string) error { return d.Rename(from, d, to, NoReplace) },
		"claimed":   func(d *Dir, from, to string) error { return renameClaimed(d.fd, from, d.fd, to) },
		"durable":   func(d *Dir, from, to string) error { return d.RenameDurably(from, d, to, NoReplace) },
	}
	for name, rename := range ways {
		t.Run(name, func(t *testing.T) {
			d := root(t)
			d.put(t, "file", "1")
			d.put(t, "file2", "2")
			d.put(t, "dir/child", "3")
			d.put(t, "full/child", "4")
			must(t, os.Mkdir(d.Name("empty"), 0o700), os.Symlink("none", d.Name("link")))
			before := fsxtest.State(t, d.path)
			for _, from := range []string{"file", "dir", "link"} {
				for _, to := range []string{"file2", "full", "empty", "link"} {
					if err := rename(d, from, to); from != to && !errors.Is(err, fs.ErrExist) {
						t.Errorf("%s over %s: %v", from, to, err)
					}
				}
			}
			if after := fsxtest.State(t, d.path); after != before {
				t.Errorf("was\n%s\nis\n%s", before, after)
			}
			must(t, rename(d, "file", "new"), rename(d, "dir", "newdir"), rename(d, "link", "newlink"))
			if err := rename(d, "none", "x"); !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
			tree := fsxtest.Tree(t, d.path)
			if tree != ".\nempty\nfile2\nfull\nfull/child\nnew\nnewdir\nnewdir/child\nnewlink\n" {
				t.Errorf("is\n%s", tree)
			}
		})
	}
}

func TestExchange(t *testing.T) {
	d := root(t)
	d.put(t, "a", "a")
	d.put(t, "b/c", "c")
	must(t, d.Rename("a", d, "b", Exchange))
	if tree := fsxtest.Tree(t, d.path); tree != ".\na\na/c\nb\n" {
		t.Errorf("is\n%s", tree)
	}
}

func TestRemoveAll(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		victim := root(t)
		victim.put(t, "file", "victim")
		before := fsxtest.State(t, victim.path)
		d := root(t)
		d.put(t, "t/a/b/file", "x")
		d.put(t, "t/bytes\xff\x1b[31m/file", "x")
		must(t, os.Symlink(victim.path, d.Name("t/a/link")), os.Symlink("/none", d.Name("t/dangling")),
			syscall.Mkfifo(d.Name("t/fifo"), 0o600), os.Chmod(d.Name("t/a/b"), 0o500), os.Chmod(d.Name("t/a"), 0))
		// Deeper than a process may have files open, and than a path may be long.
		at := d.fd
		for range 3000 {
			must(t, unix.Mkdirat(at, "deep", 0o700))
			next, err := unix.Openat(at, "deep", unix.O_RDONLY|unix.O_DIRECTORY, 0)
			must(t, err)
			if at != d.fd {
				unix.Close(at)
			}
			at = next
		}
		unix.Close(at)
		must(t, d.RemoveAll("t"), d.RemoveAll("deep"))
		if tree := fsxtest.Tree(t, d.path); tree != ".\n" {
			t.Errorf("left\n%s", tree)
		}
		if after := fsxtest.State(t, victim.path); after != before {
			t.Errorf("the victim was\n%s\nand is\n%s", before, after)
		}
	})
}

// A mount in the tree is what somebody else's data looks like.
func TestRemoveAllAndWalkStopAtMounts(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		victim, d := root(t), root(t)
		victim.put(t, "sub/file", "victim")
		d.put(t, "t/a/file", "x")
		d.put(t, "t/f", "x")
		must(t, os.Mkdir(d.Name("t/m"), 0o700), syscall.Mount(victim.path, d.Name("t/m"), "", syscall.MS_BIND, ""))
		defer syscall.Unmount(d.Name("t/m"), syscall.MNT_DETACH)
		must(t, syscall.Mount(victim.Name("sub/file"), d.Name("t/f"), "", syscall.MS_BIND, ""))
		defer syscall.Unmount(d.Name("t/f"), syscall.MNT_DETACH)
		before := fsxtest.State(t, victim.path)
		for name, want := range map[string]bool{"t": false, "t/m": true, "t/f": true, "t/a": false} {
			if mounted, err := d.IsMount(name); err != nil || mounted != want {
				t.Errorf("%s is a mount: %v, %v", name, mounted, err)
			}
		}
		if data, err := d.ReadFile("t/f", 10); err != nil || string(data) != "victim" {
			t.Errorf("a mounted file: %q, %v", data, err)
		}
		in, err := d.OpenInPlace("t/f")
		must(t, err, in.Close())
		for _, mounts := range []bool{true, false} {
			var refused, inside bool
			must(t, d.Walk(mounts, func(n Node, err error) error {
				refused = refused || errors.Is(err, unix.EXDEV)
				inside = inside || n.Path == "t/m/sub"
				if err != nil {
					return fs.SkipDir
				}
				return nil
			}))
			if inside != mounts || refused == mounts {
				t.Errorf("mounts %v: walked inside: %v, refused: %v", mounts, inside, refused)
			}
		}
		if err := d.RemoveAll("t"); !errors.Is(err, unix.EXDEV) && !errors.Is(err, unix.EBUSY) {
			t.Errorf("%v", err)
		}
		if after := fsxtest.State(t, victim.path); after != before {
			t.Errorf("the victim was\n%s\nand is\n%s", before, after)
		}
		if _, err := os.Lstat(d.Name("t/a")); !errors.Is(err, fs.ErrNotExist) {
			t.Error("what lies beside a mount stays")
		}
	})
}

func TestWalk(t *testing.T) {
	d := root(t)
	d.put(t, "a/skip/file", "x")
	d.put(t, "a/z", "z")
	var seen []string
	must(t, d.Walk(false, func(n Node, err error) error {
		seen = append(seen, n.Path)
		if n.Name == "skip" {
			return fs.SkipDir
		}
		if n.Path == "a/z" {
			f, err := n.Open()
			must(t, err, f.Close(), os.Rename(d.Name("a/z"), d.Name("a/y")), os.WriteFile(d.Name("a/z"), nil, 0o600))
			if _, err := n.Open(); !errors.Is(err, ErrSwapped) {
				t.Errorf("a file that was exchanged: %v", err)
			}
		}
		return err
	}))
	if slices.Sort(seen); slices.Contains(seen, "a/skip/file") || !slices.Contains(seen, "a/skip") {
		t.Errorf("walked %q", seen)
	}
	seen = nil
	must(t, d.Walk(false, func(n Node, err error) error {
		seen = append(seen, n.Path)
		return fs.SkipAll
	}))
	if len(seen) != 1 {
		t.Errorf("SkipAll went on to %q", seen)
	}
	// A directory that is exchanged between the look and the opening.
	err := d.Walk(false, func(n Node, err error) error {
		if n.Path == "a" && err == nil {
			must(t, os.Rename(d.Name("a"), d.Name("b")), os.Mkdir(d.Name("a"), 0o700))
		}
		return err
	})
	if !errors.Is(err, ErrSwapped) {
		t.Errorf("%v", err)
	}
	if _, err := d.MkdirAll("deep"+strings.Repeat("/d", MaxDepth+1), 0o700); err != nil {
		t.Fatal(err)
	}
	err = d.Walk(false, func(_ Node, err error) error { return err })
	if err == nil || !strings.Contains(err.Error(), "deep") {
		t.Errorf("%v", err)
	}
}

// A handle pins its directory, and says when its path leads elsewhere.
func TestHandlesPin(t *testing.T) {
	top := root(t)
	top.put(t, "live/file", "mine")
	d := open(t, top.Name("live"))
	must(t, os.Rename(top.Name("live"), top.Name("moved")), os.Symlink("/etc", top.Name("live")))
	if data, err := d.ReadFile("file", 10); err != nil || string(data) != "mine" {
		t.Errorf("%q, %v", data, err)
	}
	must(t, os.Remove(top.Name("live")), os.Mkdir(top.Name("live"), 0o700))
	if err := d.CheckPlace(Trusted("")); !errors.Is(err, ErrSwapped) {
		t.Errorf("%v", err)
	}
}

func TestEachFailureLeavesOldOrNew(t *testing.T) {
	d := root(t)
	fsxtest.EachFailure(t, func() error {
		d.put(t, "file", "old")
		return d.WriteFile("file", []byte("new"), 0o600)
	}, func(k int, at string, err error) {
		data, readErr := os.ReadFile(d.Name("file"))
		if tree := fsxtest.Tree(t, d.path); tree != ".\nfile\n" || readErr != nil ||
			!errors.Is(err, fsxtest.ErrInjected) {
			t.Errorf("%s: %v, left\n%s", at, err, tree)
		}
		if s := string(data); s != "old" && !(s == "new" && strings.HasPrefix(at, "fsync-dir")) {
			t.Errorf("%s left %q", at, s)
		}
	})
}
func sh(t *testing.T, script string) {
	t.Helper()
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}
