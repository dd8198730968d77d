package restore

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/atocore/atobackupd/internal/forktest"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
	"github.com/atocore/atobackupd/snapshot"
)

// A kill, a mount namespace and an open file belong to a process: these roles
// have one of their own.
func TestMain(m *testing.M) {
	os.Exit(forktest.Main(func() int { return runTests(m) }, roles))
}

// roles are what the other processes do; rig tests add theirs.
var roles = map[string]forktest.Role{
	"run": childRun, "resume": childResume, "abort": childAbort, "anchored": childAnchored,
	"driver": driverMain, "space": spaceMain, "busy": busyMain, "cross": crossMain,
	"siblings": siblingsMain, "nested": nestedMain, "readonly": readOnlyMain, "overlay": overlayMain,
	"hold": holdMain, "unprivileged": childUnprivileged,
	"service": serviceMain, "start": startMain, "stop": stopMain,
}

// runTests runs the tests, for root in a process whose /proc shows none but
// theirs: every restore looks through all there are, twice, and these tests
// restore a thousand times.
func runTests(m *testing.M) int {
	const within = "RESTORE_TEST_WITHIN"
	switch {
	case os.Geteuid() != 0 || os.Getenv(aloneEnv) != "":
		return m.Run()
	case os.Getenv(within) != "":
		if err := forktest.OwnProc(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}
	runtime.LockOSThread() // Pdeathsig is about the thread
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), within+"=1")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	forktest.OwnProcesses(c)
	c.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := c.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// again prepares a run of this binary in a role, as quick as it can be.
func again(role string, input any, env ...string) *exec.Cmd {
	return forktest.Command(role, input, append([]string{"GOMAXPROCS=1", "GOGC=off"}, env...)...)
}

// aloneEnv names the test that has a process to itself.
const aloneEnv = "RESTORE_TEST_ALONE"

// alone lets a test that observes every file-changing call of its process, of
// which there can be only one, run beside the others: in a process of its own.
// It is true there; elsewhere the test has been run when alone returns.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(aloneEnv) == t.Name() {
		return true
	}
	t.Parallel()
	c := exec.Command("/proc/self/exe", "-test.v", "-test.timeout=5m", "-test.run=^"+t.Name()+"$")
	c.Env = append(os.Environ(), aloneEnv+"="+t.Name(), "GOMAXPROCS=1")
	out, err := c.CombinedOutput()
	t.Logf("%s", out)
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()+" (") {
		t.Errorf("in a process of its own: %v", err)
	}
	return false
}

type childInput struct {
	Base  string
	Stamp snapshot.Stamp
}

func (in childInput) scene() scene { return scene{base: in.Base, stamp: in.Stamp} }

// childRun restores without a pre-restore snapshot, whose own kill points are
// package snapshot's to test, and dies where it is told to.
func childRun(input []byte) error { return childRestore(input, true) }

// childAnchored restores with one.
func childAnchored(input []byte) error { return childRestore(input, false) }

func childRestore(input []byte, noPreSnapshot bool) error {
	var in childInput
	if err := json.Unmarshal(input, &in); err != nil {
		return err
	}
	r, err := in.scene().request()
	if err != nil {
		return err
	}
	r.NoPreSnapshot = noPreSnapshot
	fsxtest.KillIfAsked()
	_, err = Run(context.Background(), r)
	return err
}

func childResume(input []byte) error { return childContinue(input, Resume) }
func childAbort(input []byte) error  { return childContinue(input, Abort) }

func childUnprivileged(input []byte) error {
	var in childInput
	if err := json.Unmarshal(input, &in); err != nil {
		return err
	}
	return unprivilegedMain(in)
}

func childContinue(input []byte, end func(context.Context, ResumeOptions) (Result, error)) error {
	var in childInput
	if err := json.Unmarshal(input, &in); err != nil {
		return err
	}
	r, err := in.scene().request()
	if err != nil {
		return err
	}
	fsxtest.KillIfAsked()
	_, err = end(context.Background(), resumeOptions(r.Store))
	return err
}
