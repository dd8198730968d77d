package tree

import (
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
	"github.com/atocore/atobackupd/internal/provetest"
)

// While somebody exchanges a directory for a link to the victim and back, as fast
// as he can, whatever is done below it is done in the directory or fails. Both
// must be seen often, or the race was not run.
func TestRaces(t *testing.T) {
	calls := map[string]func(d *Dir, n int) error{
		"create": func(d *Dir, n int) error {
			f, err := d.Create("x/new", 0o600)
			if err == nil {
				f.Close()
			}
			return err
		},
		"mkdir": func(d *Dir, n int) error {
			made, err := d.Mkdir("x/new", 0o700)
			made.Close()
			return err
		},
		"write":   func(d *Dir, n int) error { return d.WriteFile("x/new", []byte("x"), 0o600) },
		"symlink": func(d *Dir, n int) error { return d.Symlink("/", "x/new") },
		"remove":  func(d *Dir, n int) error { return d.Remove("x/file") },
		"rename":  func(d *Dir, n int) error { return d.Rename("x/file", d, "taken", Replace) },
		"attributes": func(d *Dir, n int) error {
			return d.SetAttributes("x/file", Attributes{UID: app, Mode: 0o666}, true)
		},
		"attributes of dir": func(d *Dir, n int) error {
			return d.SetAttributes("x/sub", Attributes{UID: app, Mode: 0o777}, true)
		},
		"in place": func(d *Dir, n int) error {
			f, err := d.OpenInPlace("x/file")
			if err == nil {
				_, err = f.WriteString("overwritten")
				f.Close()
			}
			return err
		},
		"remove all": func(d *Dir, n int) error {
			if err := d.RemoveAll("x/sub"); err != nil {
				return err
			}
			sub, err := d.MkdirAll("x/sub/deep", 0o700)
			sub.Close()
			return err
		},
		"remove all of it": func(d *Dir, n int) error { return d.RemoveAll("x") },
	}
	eachWay(t, func(t *testing.T) {
		for name, call := range calls {
			t.Run(name, func(t *testing.T) {
				victim, d := root(t), root(t)
				victim.put(t, "file", "victim")
				victim.put(t, "sub/deep/file", "victim")
				must(t, os.Chmod(victim.path, 0o755))
				before := fsxtest.State(t, victim.path)
				var swap sync.Mutex
				fresh := func() {
					swap.Lock()
					defer swap.Unlock()
					for _, entry := range []string{"x", "dir", "taken"} {
						_ = os.RemoveAll(d.Name(entry))
					}
					_ = os.MkdirAll(d.Name("dir/sub/deep"), 0o755)
					_ = os.WriteFile(d.Name("dir/file"), []byte("mine"), 0o644)
					_ = os.Symlink(victim.path, d.Name("x"))
				}
				var stop atomic.Bool
				var swapper sync.WaitGroup
				swapper.Go(func() {
					for !stop.Load() {
						swap.Lock()
						_ = unix.Renameat2(d.fd, "x", d.fd, "dir", unix.RENAME_EXCHANGE)
						swap.Unlock()
					}
				})
				done, refused, rounds := 0, 0, provetest.Rounds(t, 300)
				for n := 0; n < rounds || (done < 10 || refused < 10) && n < 200_000; n++ {
					if n%4 == 0 {
						fresh()
					}
					if call(d, n) == nil {
						done++
					} else {
						refused++
					}
				}
				stop.Store(true)
				swapper.Wait()
				if after := fsxtest.State(t, victim.path); after != before {
					t.Errorf("the victim was\n%s\nand is\n%s", before, after)
				}
				if name != "remove all of it" && (done < 10 || refused < 10) {
					t.Errorf("no race: %d were done, %d refused", done, refused)
				}
				provetest.Points(t, done+refused)
			})
		}
	})
}

// The directory that was made is the one that is used, whatever is put in its
// place: whoever can write above it finds nothing of ours elsewhere.
func TestMkdirIsRaced(t *testing.T) {
	victim, d := root(t), root(t)
	victim.put(t, "file", "victim")
	before := fsxtest.State(t, victim.path)
	must(t, os.Mkdir(d.Name("theirs"), 0o777), os.Chown(d.Name("theirs"), app, app))
	var stop atomic.Bool
	var swapper sync.WaitGroup
	swapper.Go(func() {
		for n := 0; !stop.Load(); n++ {
			if n%2 == 0 { // a link to the victim where the new directory was
				if unix.Renameat(d.fd, "new", d.fd, "old") == nil {
					_ = unix.Symlinkat(victim.path, d.fd, "new")
				}
			} else { // a directory of their own
				_ = unix.Renameat2(d.fd, "theirs", d.fd, "new", unix.RENAME_EXCHANGE)
			}
		}
	})
	done, refused := 0, 0
	for n := 0; n < 2000 || (done < 10 || refused < 1) && n < 200_000; n++ {
		_ = os.RemoveAll(d.Name("old"))
		_ = os.RemoveAll(d.Name("new"))
		made, err := d.Mkdir("new", 0o700)
		if err != nil {
			refused++
			continue
		}
		if info, err := made.Info(); err != nil || info.UID != 0 || info.Mode != 0o700 {
			t.Fatalf("%+v, %v", info, err)
		}
		// It may be removed, empty as it is, but not be another's.
		if f, err := made.Create("secret", 0o600); err == nil {
			f.Close()
			done++
		}
		made.Close()
		if _, err := os.Lstat(d.Name("theirs")); err != nil {
			_ = os.Mkdir(d.Name("theirs"), 0o777)
			_ = os.Chown(d.Name("theirs"), app, app)
		}
	}
	stop.Store(true)
	swapper.Wait()
	if after := fsxtest.State(t, victim.path); after != before {
		t.Errorf("the victim was\n%s\nand is\n%s", before, after)
	}
	if done < 10 || refused < 1 {
		t.Errorf("no race: %d were made, %d refused", done, refused)
	}
}
