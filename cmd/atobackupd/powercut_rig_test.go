//go:build rig

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/provetest"
)

// TestSweepPowerCut cuts the power at system calls all over each job and once it has
// ended, on three file systems that order differently what they write: the machine
// that starts again finds whole snapshots only, finishes or undoes what was under way,
// and takes the next one. Once the job has said a word, all that it did is there.
func TestSweepPowerCut(t *testing.T) {
	binary, killat := buildProgram(t), buildKillat(t)
	rounds := provetest.Rounds(t, 2)
	kinds := []string{"ext4", "xfs", "btrfs"}
	for k, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			d := newPowerDisk(t, kind)
			s := newTrustSceneIn(t, binary, d.scene())
			prepared(t, s, threeDays)
			d.keep(t, "days")
			for _, w := range sweeps {
				d.boot(t, "days")
				prepared(t, s, w.prepare)
				d.keep(t, "was")
				total := w.calls(t, s, killat)
				for i := range rounds {
					w.cut(t, s, d, killat, 1+(len(kinds)*i+k)*total/(len(kinds)*rounds), total)
				}
				w.cut(t, s, d, killat, 0, total)
				provetest.Points(t, rounds+1)
			}
		})
	}
}

// cut has the power fail before the n-th call of the job, or with 0 once it has ended.
func (w sweep) cut(t *testing.T, s *trustScene, d powerDisk, killat string, n, total int) {
	t.Helper()
	d.boot(t, "was")
	catch := fmt.Sprintf("%s %s c", d.rig("powercut.sh"), d.dir)
	job := w.under(fmt.Sprintf(`%s -n %d -at "%s"`, killat, n, catch))
	said := s.root(t, `rm -f ../outer/c.cut; `+job+` 2>../said >../told; echo "status $?" >>../said; `+
		`[ -e ../outer/c.cut ] || `+catch+`; cat ../told ../said`)
	at := fmt.Sprintf("%s: cut at %d of %d", w.name, n, total)
	if n == 0 {
		at = w.name + ": cut once it had ended"
		if lastLine(said) != w.ends() {
			t.Errorf("%s: not %s: %s", at, w.ends(), said)
		}
	}
	var done string
	if n == 0 || s.succeeds(t, `[ -s ../told ]`) {
		done = s.root(t, allThatIs)
	}
	d.boot(t, "c")
	if left := s.root(t, allThatIs); done != "" && left != done {
		t.Errorf("%s: it had said %s\nand this was gone:\n%s", at, said, differences(done, left))
	}
	w.check(t, s, at, said)
}

// allThatIs shows what is there, but for what may be lost: locks, the shared memory of
// SQLite, and what is swept.
const allThatIs = `T=$(ls -d store backups vault state config.toml lost 2>/dev/null); ` +
	`S='! -name *.lock ! -name *-shm ! -path backups/staging/*'; set -f; ` +
	`find $T $S -printf '%y %m %U:%G %p %l\n' | sort; find $T $S -type f -exec sha256sum {} + | sort -k 2; ` +
	`a history; a vault list`

// differences returns the lines that only one of two texts has.
func differences(before, after string) string {
	var b strings.Builder
	for mark, texts := range map[string][2]string{"-": {before, after}, "+": {after, before}} {
		for line := range strings.SplitSeq(texts[0], "\n") {
			if !strings.Contains(texts[1], line) {
				fmt.Fprintln(&b, mark, line)
			}
		}
	}
	return b.String()
}

// powerDisk is a file system on dir/fs whose disk can be caught in an instant, in the
// middle of a program, and be mounted there as a power cut would have left it.
type powerDisk struct{ dir, options string }

// newPowerDisk makes one. Its mounts are seen by this test's own thread only, and by
// what that starts: however the test ends, they end with it.
func newPowerDisk(t *testing.T, kind string) powerDisk {
	t.Helper()
	runtime.LockOSThread() // for good: the thread ends with the test
	must(t, unix.Unshare(unix.CLONE_NEWNS))
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	// Nothing is flushed because time goes by, as on a machine that is faster than the
	// clock of its disk; and two disks with one name may be mounted.
	d := powerDisk{dir: t.TempDir(), options: "loop,commit=300"}
	if kind == "xfs" {
		d.options = "loop,nouuid"
	}
	must(t, unix.Mount("tmpfs", d.dir, "tmpfs", 0, "size=2G"))
	t.Cleanup(func() { must(t, unix.Unmount(d.dir, unix.MNT_DETACH)) })
	output(t, "/", d.rig("powercut-up.sh"), kind, "400M", d.dir)
	d.unmount(t)
	output(t, d.dir, "umount", "outer/disk") // the same once more, where the rig made it
	d.mount(t)
	return d
}

func (d powerDisk) rig(script string) string {
	return filepath.Join(os.Getenv("ATOBACKUPD_SHARED"), "rig", script)
}

// scene is where the file system is, with whatever disk.
func (d powerDisk) scene() string { return filepath.Join(d.dir, "fs") }

// keep unmounts the disk in good order, keeps it under a name, and goes on.
func (d powerDisk) keep(t *testing.T, name string) {
	t.Helper()
	d.unmount(t)
	output(t, d.dir, "cp", "--reflink=always", "outer/disk.img", "outer/"+name+".cut")
	d.mount(t)
}

// boot goes on with a disk that was kept or caught.
func (d powerDisk) boot(t *testing.T, name string) {
	t.Helper()
	d.unmount(t)
	output(t, d.dir, "rm", "outer/disk.img")
	output(t, d.dir, "cp", "--reflink=always", "outer/"+name+".cut", "outer/disk.img")
	d.mount(t)
}

func (d powerDisk) mount(t *testing.T) {
	t.Helper()
	output(t, d.dir, "mount", "-o", d.options, "outer/disk.img", "fs")
}

func (d powerDisk) unmount(t *testing.T) {
	t.Helper()
	// A process that was killed may not be gone yet.
	output(t, d.dir, "sh", "-c", "umount fs || umount -l fs")
}
