package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
)

// app is the application's user in these tests: nobody's here.
const app = 61234

// A link on the way to a configured root is followed only where root made it and
// nobody else can exchange it.
func TestOpenFollowsOnlyPrivateLinks(t *testing.T) {
	for _, c := range []struct {
		name   string
		make   func(t *testing.T, top string) // top/real/file exists
		open   string
		leads  string // "" is a refusal
		reason string
	}{
		{name: "no link", open: "real", leads: "real"},
		{name: "root's link", open: "link", leads: "real",
			make: func(t *testing.T, top string) { must(t, os.Symlink("real", top+"/link")) }},
		{name: "root's absolute link", open: "link", leads: "real",
			make: func(t *testing.T, top string) { must(t, os.Symlink(top+"/real", top+"/link")) }},
		{name: "a link to a link", open: "l2/sub", leads: "real/sub",
			make: func(t *testing.T, top string) {
				must(t, os.Symlink("./l1/.", top+"/l2"), os.Symlink("real", top+"/l1"))
			}},
		{name: "up through a link", open: "l/../other", leads: "real/other",
			make: func(t *testing.T, top string) {
				must(t, os.Symlink("real/sub", top+"/l"), os.Mkdir(top+"/real/other", 0o755))
			}},
		{name: "a link to the directory above", open: "real/up", leads: ".",
			make: func(t *testing.T, top string) { must(t, os.Symlink("..", top+"/real/up")) }},
		{name: "the application's link", open: "link", reason: "make it lead elsewhere",
			make: func(t *testing.T, top string) {
				must(t, os.Symlink("real", top+"/link"), os.Lchown(top+"/link", app, app))
			}},
		{name: "root's link in the application's directory", open: "apps/link", reason: "make it lead elsewhere",
			make: func(t *testing.T, top string) {
				must(t, os.Mkdir(top+"/apps", 0o755), os.Symlink("../real", top+"/apps/link"),
					os.Chown(top+"/apps", app, app))
			}},
		{name: "below the application's directory", open: "apps/own/link", reason: "make it lead elsewhere",
			make: func(t *testing.T, top string) {
				must(t, os.MkdirAll(top+"/apps/own", 0o755), os.Symlink("../../real", top+"/apps/own/link"),
					os.Chown(top+"/apps", app, app))
			}},
		{name: "in a directory that everybody can write", open: "pub/link", reason: "make it lead elsewhere",
			make: func(t *testing.T, top string) {
				must(t, os.Mkdir(top+"/pub", 0), os.Chmod(top+"/pub", 0o777),
					os.Symlink("../real", top+"/pub/link"))
			}},
		{name: "in a sticky directory", open: "tmp/link", leads: "real",
			make: func(t *testing.T, top string) {
				must(t, os.Mkdir(top+"/tmp", 0), os.Chmod(top+"/tmp", 0o777|os.ModeSticky),
					os.Symlink("../real", top+"/tmp/link"))
			}},
		{name: "the application's link in a sticky directory", open: "tmp/link", reason: "make it lead elsewhere",
			make: func(t *testing.T, top string) {
				must(t, os.Mkdir(top+"/tmp", 0), os.Chmod(top+"/tmp", 0o777|os.ModeSticky),
					os.Symlink("../real", top+"/tmp/link"), os.Lchown(top+"/tmp/link", app, app))
			}},
		{name: "the application's directories", open: "real", leads: "real",
			make: func(t *testing.T, top string) { must(t, os.Chown(top+"/real", app, app), os.Chown(top, app, app)) }},
		{name: "a circle", open: "a", reason: "too many",
			make: func(t *testing.T, top string) { must(t, os.Symlink("b", top+"/a"), os.Symlink("a", top+"/b")) }},
		{name: "a dangling link", open: "a", reason: "no such file",
			make: func(t *testing.T, top string) { must(t, os.Symlink("none", top+"/a")) }},
		{name: "through a file", open: "real/file/x", reason: "not a directory"},
		{name: "a file", open: "real/file", reason: "not a directory"},
		{name: "nothing", open: "none/at/all", reason: "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachWay(t, func(t *testing.T) {
				top := root(t)
				top.put(t, "real/file", "x")
				must(t, os.Mkdir(top.Name("real/sub"), 0o755))
				if c.make != nil {
					c.make(t, top.path)
				}
				d, err := Open(top.path+"/"+c.open, Trusted(""))
				if err == nil {
					defer d.Close()
				}
				if c.leads == "" {
					if err == nil || !strings.Contains(err.Error(), c.reason) {
						t.Fatalf("%v", err)
					}
					refused := failure.KindOf(err) == failure.Refused && errors.Is(err, ErrSymlink)
					if refused != strings.HasPrefix(c.reason, "make it") {
						t.Errorf("%v", err)
					}
					return
				}
				must(t, err)
				if want := filepath.Join(top.path, c.leads); d.path != want {
					t.Errorf("leads to %s, not %s", d.path, want)
				}
				must(t, d.CheckPlace(Trusted("")), d.Sync())
			})
		})
	}
	if _, err := Open("relative", Trusted("")); err == nil {
		t.Error("a relative path was opened")
	}
	if d, err := Open("/", Trusted("")); err != nil || d.path != "/" {
		t.Errorf("the root directory: %v", err)
	}
}

// The last element of a file's path is resolved like the others, and may be
// missing.
func TestOpenParent(t *testing.T) {
	top := root(t)
	top.put(t, "real/file", "x")
	must(t, os.Symlink("real/file", top.Name("link")), os.Symlink("real/none", top.Name("dangling")))
	for path, want := range map[string][2]string{
		"real/file": {"real", "file"}, "real/none": {"real", "none"}, "link": {"real", "file"}, "dangling": {
			"real",
			"none",
		},
	} {
		d, base, err := OpenParent(top.Name(path), Trusted(""))
		must(t, err)
		if d.path != top.Name(want[0]) || base != want[1] {
			t.Errorf("%s: %s in %s", path, base, d.path)
		}
		d.Close()
	}
	must(t, os.Lchown(top.Name("link"), app, app))
	if _, _, err := OpenParent(top.Name("link"), Trusted("")); !errors.Is(err, ErrSymlink) {
		t.Errorf("the application's link: %v", err)
	}
	if _, _, err := OpenParent(top.Name("none/x"), Trusted("")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestOpenOrMake(t *testing.T) {
	top := root(t)
	for range 2 {
		d, err := OpenOrMake(top.Name("a/b/c"), Trusted(""), 0o710)
		must(t, err)
		d.Close()
	}
	if info, err := top.Lstat("a/b"); err != nil || info.Mode != 0o710 {
		t.Errorf("%+v, %v", info, err)
	}
	must(t, os.Symlink("a", top.Name("link")), os.Lchown(top.Name("link"), app, app))
	if _, err := OpenOrMake(top.Name("link/x"), Trusted(""), 0o700); !errors.Is(err, ErrSymlink) {
		t.Error(err)
	}
	if _, err := os.Lstat(top.Name("a/x")); err == nil {
		t.Error("made behind the application's link")
	}
}

func TestPrivate(t *testing.T) {
	mode := func(name string, mode os.FileMode) func(t *testing.T, top string) {
		return func(t *testing.T, top string) { must(t, os.Chmod(filepath.Join(top, name), mode)) }
	}
	chown := func(name string, uid, gid int) func(t *testing.T, top string) {
		return func(t *testing.T, top string) { must(t, os.Lchown(filepath.Join(top, name), uid, gid)) }
	}
	acl := func(name string, tag, perm uint16, id uint32) func(t *testing.T, top string) {
		return func(t *testing.T, top string) {
			le := func(list ...uint16) (b []byte) {
				for _, n := range list {
					b = append(b, byte(n), byte(n>>8))
				}
				return b
			}
			none := []uint16{0xffff, 0xffff}
			value := le(2, 0)
			value = append(value, le(append([]uint16{1, 7}, none...)...)...) // the owner
			if tag == 0x02 {
				value = append(value, le(tag, perm, uint16(id), uint16(id>>16))...)
			}
			value = append(value, le(append([]uint16{4, 5}, none...)...)...) // the owner's group
			if tag == 0x08 {
				value = append(value, le(tag, perm, uint16(id), uint16(id>>16))...)
			}
			value = append(value, le(append([]uint16{0x10, 7}, none...)...)...) // the mask
			value = append(value, le(append([]uint16{0x20, 5}, none...)...)...) // others
			must(t, unix.Setxattr(filepath.Join(top, name), "system.posix_acl_access", value, 0))
		}
	}
	for _, c := range []struct {
		name     string
		make     func(t *testing.T, top string)
		path     string // a/b/c by default
		offender string // "" is private
		why      string
		mend     string
	}{
		{name: "root's"},
		{name: "root's group", make: mode("a/b", 0o770)},
		{name: "not there yet", path: "a/b/none/x"},
		{name: "a file", path: "a/b/file"},
		{name: "the path's owner", make: chown("a/b/c", app, 0), offender: "a/b/c", why: "belongs to uid 61234",
			mend: "chown root"},
		{name: "a parent's owner", make: chown("a", app, app), offender: "a", why: "belongs to uid 61234",
			mend: "chown root"},
		{name: "everybody", make: mode("a/b/c", 0o777), offender: "a/b/c", why: "by everybody",
			mend: "chmod go-w"},
		{name: "everybody above", make: mode("a/b", 0o757), offender: "a/b", why: "by everybody",
			mend: "chmod go-w"},
		{name: "sticky above", make: mode("a/b", 0o777|os.ModeSticky)},
		{name: "sticky itself", make: mode("a/b/c", 0o777|os.ModeSticky), offender: "a/b/c", why: "by everybody",
			mend: "chmod go-w"},
		{name: "somebody else's sticky", offender: "a/b", why: "belongs to uid 61234", mend: "chown root",
			make: func(t *testing.T, top string) {
				chown("a/b", app, 0)(t, top)
				mode("a/b", 0o777|os.ModeSticky)(t, top)
			}},
		{name: "a group that nobody knows", offender: "a/b", why: "by group 61234", mend: "chmod g-w",
			make: func(t *testing.T, top string) { chown("a/b", 0, app)(t, top); mode("a/b", 0o770)(t, top) }},
		{name: "a named user", make: acl("a/b/c", 2, 7, app), offender: "a/b/c", why: "uid 61234, whom its access",
			mend: "setfacl -b"},
		{name: "a named user who reads", make: acl("a/b/c", 2, 5, app)},
		{name: "a named group", make: acl("a/b", 8, 2, app), offender: "a/b", why: "group 61234",
			mend: "setfacl -b"},
		{
			name: "root's link",
			path: "link/c",
			make: func(t *testing.T, top string) { must(t, os.Symlink("a/b", top+"/link")) },
		},
		{name: "a link to what is shared", path: "link/c", offender: "a", why: "uid 61234", mend: "chown root",
			make: func(t *testing.T, top string) {
				must(t, os.Symlink("a/b", top+"/link"))
				chown("a", app, 0)(t, top)
			}},
		{name: "the application's link", path: "link/c", offender: "link", why: "uid 61234", mend: "chown -h root",
			make: func(t *testing.T, top string) {
				must(t, os.Symlink("a/b", top+"/link"))
				chown("link", app, app)(t, top)
			}},
		{name: "a file's owner", path: "a/b/file", make: chown("a/b/file", app, 0), offender: "a/b/file",
			why:  "uid 61234",
			mend: "chown root"},
	} {
		t.Run(c.name, func(t *testing.T) {
			top := root(t)
			top.put(t, "a/b/file", "x")
			must(t, os.Mkdir(top.Name("a/b/c"), 0o755))
			if c.make != nil {
				c.make(t, top.path)
			}
			if c.path == "" {
				c.path = "a/b/c"
			}
			err := Private(top.Name(c.path), Trusted(""))
			if c.offender == "" {
				must(t, err)
				return
			}
			offender := top.Name(c.offender)
			if failure.KindOf(err) != failure.Refused {
				t.Fatalf("%v", err)
			}
			for _, part := range []string{offender + " ", c.why, c.mend + " " + offender} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%v: lacks %q", err, part)
				}
			}
		})
	}
}

// Every offence is named at once, with what mends them all, and done so the path
// is private.
func TestOffencesAreMendedByTheirCommands(t *testing.T) {
	top := root(t)
	must(
		t,
		os.MkdirAll(top.Name("a b/c'd"), 0o755),
		os.Chown(top.Name("a b"), app, app),
		os.Chmod(top.Name("a b"), 0o777),
		os.Mkdir(top.Name("state"), 0o700),
		os.Chown(top.Name("state"), app+1, 0),
	)
	owners := Trusted(top.Name("state"))
	if !owners.Has(app + 1) {
		t.Fatal("the state directory's owner is not the service's user")
	}
	must(t, os.Chown(top.Name("a b/c'd"), app, app))
	found, err := Offences(top.Name("a b/c'd"), owners)
	if err != nil || len(found) != 2 {
		t.Fatalf("%+v, %v", found, err)
	}
	if want := "chown 61235 '" + top.path + `/a b/c'\''d'`; found[1].Mend != want {
		t.Errorf("%s, not %s", found[1].Mend, want)
	}
	for _, o := range found {
		sh(t, o.Mend)
	}
	must(t, Private(top.Name("a b/c'd"), owners))
}

func TestGroupMembers(t *testing.T) {
	passwd := []string{
		"root:x:0:0:root:/root:/bin/sh",
		"bob:x:1000:1000::/home/bob:/bin/sh",
		"",
		"bad:x:y:1000",
		"eve:x:1001:1000:",
	}
	groups := []string{"root:x:0:", "backup:x:34:bob,ghost", "alone:x:77:", "bad"}
	for gid, want := range map[int]struct {
		members string
		known   bool
	}{0: {"[0]", true}, 1000: {"[1000 1001]", true}, 34: {"[1000 -1]", true}, 77: {"[]", true}, 5: {"[]", false}} {
		members, known := membersIn(passwd, groups, gid)
		if got := strings.ReplaceAll(strings.TrimSpace(fmt.Sprint(members)), "<nil>", "[]"); got != want.members ||
			known != want.known {
			t.Errorf("%d: %s, %v", gid, got, known)
		}
	}
}

// A new directory and a new file below a handle that gives are the owner's.
func TestGiveToOwner(t *testing.T) {
	top := root(t)
	must(t, os.Mkdir(top.Name("state"), 0o700), os.Chown(top.Name("state"), app, app+1))
	d, err := open(t, top.Name("state")).GiveToOwner()
	must(t, err)
	sub, err := d.MkdirAll("a/b", 0o750)
	must(t, err)
	f, err := sub.Create("file", 0o640)
	must(t, err, f.Close(), sub.Symlink("x", "link"), sub.WriteFile("written", nil, 0o600))
	count := 0
	must(t, d.Walk(false, func(n Node, err error) error {
		if count++; n.UID != app || n.GID != app+1 {
			t.Errorf("%s belongs to %d:%d", n.Path, n.UID, n.GID)
		}
		return err
	}))
	if count != 5 {
		t.Errorf("%d entries", count)
	}
	must(t, os.WriteFile(d.Name("by-path"), nil, 0o600), os.WriteFile(d.Name("two"), nil, 0o600),
		os.Link(d.Name("two"), top.Name("other")), os.Symlink("by-path", d.Name("link")), d.Give("by-path"))
	if info, err := d.Lstat("by-path"); err != nil || info.UID != app {
		t.Errorf("%+v, %v", info, err)
	}
	for _, name := range []string{"two", "link"} {
		if d.Give(name) == nil {
			t.Errorf("%s was given away", name)
		}
	}
}

func TestAttributes(t *testing.T) {
	d := root(t)
	d.put(t, "old", "x")
	d.put(t, "new", "x")
	must(t, os.Chown(d.Name("old"), app, app+1), os.Chmod(d.Name("old"), 0o640),
		unix.Setxattr(d.Name("old"), "user.color", []byte("blue"), 0))
	a, err := d.Attributes("old")
	must(t, err, d.SetAttributes("new", a, true))
	b, err := d.Attributes("new")
	if err != nil || fmt.Sprint(a) != fmt.Sprint(b) || b.UID != app || string(b.Xattrs["user.color"]) != "blue" {
		t.Errorf("%v and %v, %v", a, b, err)
	}
	a.UID = 0
	must(t, d.SetAttributes("new", a, false))
	if b, err := d.Attributes("new"); err != nil || b.UID != app {
		t.Errorf("the owner was changed: %v, %v", b, err)
	}
	must(t, os.Link(d.Name("new"), d.Name("new2")))
	if err := d.SetAttributes("new", a, true); !errors.Is(err, ErrHardLink) {
		t.Errorf("a file of two names: %v", err)
	}
	must(t, d.SetAttributes(".", Attributes{UID: app, Mode: 0o711}, true))
	if info, err := d.Info(); err != nil || info.UID != app || info.Mode != 0o711 {
		t.Errorf("%+v, %v", info, err)
	}
}

// What a stored file claims never makes a program that runs as root, nor a file
// of root's in the application's directory.
func TestRestorable(t *testing.T) {
	forged := Attributes{UID: 0, GID: 0, Mode: 0o7755, Xattrs: map[string][]byte{
		"security.capability": {1}, "trusted.overlay": {1}, "user.x": {1}, "system.posix_acl_access": {2}}}
	for _, c := range []struct{ root, want Attributes }{
		{Attributes{UID: app, GID: app}, Attributes{UID: app, GID: app}},
		{Attributes{UID: app, GID: 0}, Attributes{UID: app, GID: 0}},
		{Attributes{UID: 0, GID: 0}, Attributes{UID: 0, GID: 0}},
	} {
		got := forged.Restorable(c.root)
		if got.UID != c.want.UID || got.GID != c.want.GID || got.Mode != 0o755 || len(got.Xattrs) != 2 {
			t.Errorf("below %+v: %+v", c.root, got)
		}
	}
	if got := (Attributes{UID: 5, GID: 6, Mode: 0o600}).Restorable(Attributes{UID: app, GID: app}); got.UID != 5 ||
		got.GID != 6 {
		t.Errorf("several owners in one tree: %+v", got)
	}
}

func TestGrantRead(t *testing.T) {
	d := root(t)
	d.put(t, "a/file", "x")
	must(
		t,
		os.Symlink("/etc/passwd", d.Name("a/link")),
		os.Chmod(d.Name("a/file"), 0o4666),
		os.Chmod(d.Name("a"), 0o700),
		d.GrantRead(app),
	)
	for name, want := range map[string]uint32{".": 0o750, "a": 0o750, "a/file": 0o640} {
		if info, err := d.Lstat(name); err != nil || info.Mode != want || info.GID != app || info.UID != 0 {
			t.Errorf("%s: %+v, %v", name, info, err)
		}
	}
	if info, err := os.Stat("/etc/passwd"); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("a link was followed: %v, %v", info.Mode(), err)
	}
}

// What is taken over is nobody else's any more; a file with a name elsewhere, or
// anything special, ends it.
func TestTakeOver(t *testing.T) {
	top := root(t)
	top.put(t, "x/a/file", "x")
	must(t, os.Symlink("/etc/passwd", top.Name("x/link")), os.Chmod(top.Name("x/a/file"), 0o4777),
		os.Chown(top.Name("x/a/file"), app, app), os.Chown(top.Name("x"), app, app))
	d := open(t, top.Name("x"))
	must(t, d.TakeOver(app+1, app+2))
	for name, want := range map[string]uint32{".": 0o700, "a": 0o700, "a/file": 0o740, "link": 0o777} {
		if info, err := d.Lstat(name); err != nil || info.UID != app+1 || info.GID != app+2 || info.Mode != want {
			t.Errorf("%s: %+v, %v", name, info, err)
		}
	}
	if info, err := os.Stat("/etc/passwd"); err != nil || info.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Error("a link was followed")
	}
	top.put(t, "live", "x")
	must(t, os.Link(top.Name("live"), d.Name("hard")))
	if err := d.TakeOver(app+1, app+2); !errors.Is(err, ErrHardLink) {
		t.Errorf("a file with a name elsewhere: %v", err)
	}
	must(t, os.Remove(d.Name("hard")), syscall.Mkfifo(d.Name("fifo"), 0o600))
	if err := d.TakeOver(app+1, app+2); !errors.Is(err, ErrNotRegular) {
		t.Errorf("a FIFO: %v", err)
	}
}
