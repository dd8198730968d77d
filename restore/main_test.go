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

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
	"github.com/atocore/atobackupd/snapshot"
)

// The test binary runs itself again in several roles, because a kill, a mount
// namespace and an open file belong to a process.
const (
	roleEnv  = "RESTORE_TEST_ROLE"
	inputEnv = "RESTORE_TEST_INPUT"
)

var roles = map[string]func(input []byte) error{}

func TestMain(m *testing.M) {
	roles["run"], roles["resume"], roles["abort"] = childRun, childResume, childAbort
	roles["driver"], roles["space"], roles["busy"], roles["cross"] = driverMain, spaceMain, busyMain, crossMain
	roles["siblings"], roles["nested"] = siblingsMain, nestedMain
	roles["anchored"] = childAnchored
	roles["readonly"], roles["overlay"] = readOnlyMain, overlayMain
	roles["hold"], roles["unprivileged"] = holdMain, childUnprivileged
	roles["service"], roles["start"], roles["stop"] = serviceMain, startMain, stopMain
	role, asked := roles[os.Getenv(roleEnv)]
	if !asked {
		os.Exit(runTests(m))
	}
	if err := role([]byte(os.Getenv(inputEnv))); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
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
		if err := ownProc(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}
	runtime.LockOSThread() // Pdeathsig is about the thread
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), within+"=1")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	inNamespace(c)
	c.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := c.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// ownProc shows the processes of this process's namespace alone.
func ownProc() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	return unix.Mount("proc", "/proc", "proc", 0, "")
}

// again prepares a run of this binary in a role.
func again(role string, input any, env ...string) *exec.Cmd {
	data, err := json.Marshal(input)
	if err != nil {
		panic(err)
	}
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), roleEnv+"="+role, inputEnv+"="+string(data))
	c.Env = append(append(c.Env, "GOMAXPROCS=1", "GOGC=off"), env...)
	c.Stderr = os.Stderr
	return c
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

// inNamespace gives a process mounts and process ids of its own (few processes
// to look through); without root also a user namespace, in which it may mount.
func inNamespace(c *exec.Cmd) {
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	c.SysProcAttr = attr
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
