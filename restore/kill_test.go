package restore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/forktest"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
	"github.com/atocore/atobackupd/internal/provetest"
	"github.com/atocore/atobackupd/snapshot"
)

// layouts are how the live store lies there.
var layouts = []string{"plain", "bind dir", "bind file", "empty disk"}

// driverInput asks a driver for one layout; Second says what is killed after a
// restore that was killed in the middle, "" for nothing.
type driverInput struct{ Layout, Second string }

// trial is one kill and what became of it.
type trial struct {
	K     int    // the file-changing call before which the process died
	Then  string // "resume" or "abort"
	Phase Phase  // in the journal that it left; "" for none
	End   string // "old", "new", or what is wrong
}

func TestKillAnywhere(t *testing.T) {
	t.Parallel()
	results := runDrivers(
		t,
		[]driverInput{{Layout: layouts[0]}, {Layout: layouts[1]}, {Layout: layouts[2]}, {Layout: layouts[3]}},
	)
	var table strings.Builder
	fmt.Fprintf(&table, "\n%-10s %-8s %12s %8s %8s %8s\n", "layout", "then", "kill points", "old", "new", "bad")
	for i, layout := range layouts {
		for _, then := range []string{"resume", "abort"} {
			count := map[string]int{}
			for _, r := range results[i] {
				if r.Then != then {
					continue
				}
				count["all"]++
				switch want := expected(r); {
				case r.End == want || want == "either" && (r.End == "old" || r.End == "new"):
					count[r.End]++
				default:
					count["bad"]++
					t.Errorf("%s: killed before call %d (journal: %q), then %s: %s", layout, r.K, r.Phase, then, r.End)
				}
			}
			provetest.Points(t, count["all"])
			if count["old"] == 0 && then == "abort" || count["new"] == 0 || count["all"] < 40 {
				t.Errorf("%s, %s: nothing was tested: %v", layout, then, count)
			}
			fmt.Fprintf(
				&table,
				"%-10s %-8s %12d %8d %8d %8d\n",
				layout,
				then,
				count["all"],
				count["old"],
				count["new"],
				count["bad"],
			)
		}
	}
	t.Log(table.String())
}

// expected says what a store must be after a kill and what followed.
func expected(r trial) string {
	switch {
	case r.Phase == "":
		return "either" // before the journal, or after it was removed
	case r.Then == "resume" || r.Phase == PhaseCommitted:
		return "new"
	}
	return "old"
}

// TestKillTheRepair kills a restore in mid-swap, then kills the resume or abort
// at every call, and ends it the other way.
func TestKillTheRepair(t *testing.T) {
	t.Parallel()
	inputs := []driverInput{{"plain", "resume"}, {"plain", "abort"}, {"bind file", "resume"}, {"bind file", "abort"}}
	for i, results := range runDrivers(t, inputs) {
		for _, r := range results {
			want := map[string]string{"resume": "new", "abort": "old"}[r.Then]
			switch {
			case r.Phase == PhaseCommitted:
				want = "new"
			case r.Phase == PhaseAborted:
				want = "old"
			case r.Phase == "" && (r.End == "old" || r.End == "new"):
				continue
			}
			if r.End != want {
				t.Errorf(
					"%s: killed in mid-swap, %s killed before call %d (journal: %q), then %s: %s",
					inputs[i].Layout,
					inputs[i].Second,
					r.K,
					r.Phase,
					r.Then,
					r.End,
				)
			}
		}
		provetest.Points(t, len(results))
		if len(results) < 10 {
			t.Errorf("%v: only %d trials", inputs[i], len(results))
		}
	}
}

// runDrivers runs one driver for each input, two at a time.
func runDrivers(t *testing.T, inputs []driverInput) [][]trial {
	t.Helper()
	results := make([][]trial, len(inputs))
	limit := make(chan struct{}, 2)
	var group sync.WaitGroup
	for i, in := range inputs {
		group.Go(func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			c := again("driver", in, "TMPDIR="+t.TempDir(), "GOGC=100")
			forktest.OwnProcesses(c)
			c.Stderr = os.Stderr
			out, err := c.Output()
			if err == nil {
				err = json.Unmarshal(out, &results[i])
			}
			if err != nil {
				t.Errorf("%v: %v ("+forktest.NeedsNamespaces+")", in, err)
			}
		})
	}
	group.Wait()
	return results
}

// driver tries every kill point in one layout, in a mount namespace.
type driver struct {
	driverInput
	base, template string
	stamp          snapshot.Stamp
	oldPrint       string
	newPrint       string
	trials         []trial
}

func driverMain(input []byte) error {
	var d driver
	if err := json.Unmarshal(input, &d.driverInput); err != nil {
		return err
	}
	if err := d.prepare(); err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	middle := 0
	if d.Second != "" {
		var err error
		if middle, err = d.findMiddle(); err != nil {
			return err
		}
	}
	for k, more := 1, true; more; k++ {
		for _, then := range []string{"resume", "abort"} {
			var err error
			if more, err = d.try(k, middle, then); err != nil {
				return fmt.Errorf("kill at %d, then %s: %w", k, then, err)
			}
			if !more {
				break
			}
		}
	}
	return json.NewEncoder(os.Stdout).Encode(d.trials)
}

// prepare mounts a file system in memory and makes the scene that every trial
// starts from.
func (d *driver) prepare() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	// Where it is forbidden the other /proc does too: it only shows more.
	_ = unix.Mount("proc", "/proc", "proc", 0, "")
	room, err := os.MkdirTemp("", "restore-driver-")
	if err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", room, "tmpfs", 0, ""); err != nil {
		return err
	}
	d.base, d.template = filepath.Join(room, "base"), filepath.Join(room, "template")
	s, err := makeScene(d.base)
	if err != nil {
		return err
	}
	d.stamp = s.stamp
	if err := os.Rename(d.base, d.template); err != nil {
		return err
	}
	if err := d.reset(); err != nil {
		return err
	}
	if d.oldPrint, err = s.print(); err != nil {
		return err
	}
	if err := childRun(d.input()); err != nil {
		return err
	}
	d.newPrint, err = s.print()
	return err
}

func (d *driver) input() []byte {
	data, _ := json.Marshal(childInput{d.base, d.stamp})
	return data
}

// mounted returns the live path that is a mount point, and what lies under it.
func (d *driver) mounted() (live, under string) {
	switch d.Layout {
	case "bind dir":
		return filepath.Join(d.base, "live/chroma"), filepath.Join(d.base, "under-chroma")
	case "bind file":
		return filepath.Join(d.base, "live/db/atocore.db"), filepath.Join(d.base, "under.db")
	}
	return "", ""
}

// reset lays the scene out anew.
func (d *driver) reset() error {
	live, under := d.mounted()
	if live != "" && exists(live) {
		_ = unix.Unmount(live, 0)
	}
	if err := copyTree(d.template, d.base); err != nil {
		return err
	}
	if d.Layout == "empty disk" {
		lives := filepath.Join(d.base, "live")
		return errors.Join(os.RemoveAll(lives), os.Mkdir(lives, 0o755))
	}
	if live == "" {
		return nil
	}
	if err := os.Rename(live, under); err != nil {
		return err
	}
	var err error
	if d.Layout == "bind dir" {
		err = os.Mkdir(live, 0o700)
	} else {
		err = os.WriteFile(live, nil, 0o600)
	}
	if err != nil {
		return err
	}
	return unix.Mount(under, live, "", unix.MS_BIND, "")
}

// child runs one step in a process of its own that dies at its k-th call.
func (d *driver) child(role string, k int) (killed bool, err error) {
	c := again(role, childInput{d.base, d.stamp}, fsxtest.KillEnv(k))
	var stderr bytes.Buffer
	c.Stderr = &stderr
	err = c.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return true, nil
	}
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", role, err, stderr.String())
	}
	return false, err
}

// try makes one trial; more is false when the call was past the last one.
func (d *driver) try(k, middle int, then string) (more bool, err error) {
	if err := d.reset(); err != nil {
		return false, err
	}
	role, at := "run", k
	if middle > 0 {
		if _, err := d.child("run", middle); err != nil {
			return false, err
		}
		role = d.Second
	}
	live, _ := d.mounted()
	var before *Identity
	if live != "" {
		if before, err = inodeOf(live); err != nil {
			return false, err
		}
	}
	killed, err := d.child(role, at)
	if err != nil || !killed {
		return false, err
	}
	result := trial{K: k, Then: then}
	if j, err := pendingIn(filepath.Join(d.base, "backups")); err != nil {
		result.End = err.Error()
	} else if j != nil {
		result.Phase = j.Phase
		if err := d.end(then); err != nil {
			result.End = err.Error()
		}
	}
	if result.End == "" {
		result.End = d.verdict()
	}
	if after, err := inodeOf(live); before != nil && (err != nil || !after.sameInode(before)) {
		result.End = "the mounted inode is another one"
	}
	d.trials = append(d.trials, result)
	return true, nil
}

func (d *driver) end(then string) error {
	store, err := snapshot.Open(filepath.Join(d.base, "backups"))
	if err != nil {
		return err
	}
	c := resumeOptions(store)
	if then == "resume" {
		_, err = Resume(context.Background(), c)
	} else {
		_, err = Abort(context.Background(), c)
	}
	return err
}

func (d *driver) verdict() string {
	now, err := scene{base: d.base}.print()
	switch {
	case err != nil:
		return err.Error()
	case exists(journalPath(filepath.Join(d.base, "backups"))):
		return "the journal still stands"
	case now == d.oldPrint:
		return "old"
	case now == d.newPrint:
		return "new"
	}
	return "neither old nor new:\n" + now
}

// findMiddle returns the call in the middle of the swap, by watching one.
func (d *driver) findMiddle() (int, error) {
	if err := d.reset(); err != nil {
		return 0, err
	}
	calls, first, last := 0, 0, 0
	stop := fsx.Observe(func(fsx.Op, string) error {
		calls++
		if j, err := pendingIn(filepath.Join(d.base, "backups")); err == nil && j != nil && j.Phase == PhaseSwapping {
			if first == 0 {
				first = calls
			}
			last = calls
		}
		return nil
	})
	defer stop()
	if err := childRun(d.input()); err != nil {
		return 0, err
	}
	if first == 0 {
		return 0, errors.New("the swap was never seen")
	}
	return (first + last) / 2, nil
}
