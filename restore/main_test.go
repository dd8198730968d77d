package restore

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

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
	roles["driver"], roles["busy"], roles["space"] = driverMain, busyMain, spaceMain
	roles["hold"], roles["unprivileged"] = holdMain, childUnprivileged
	roles["service"], roles["start"], roles["stop"] = serviceMain, startMain, stopMain
	role, asked := roles[os.Getenv(roleEnv)]
	if !asked {
		os.Exit(m.Run())
	}
	if err := role([]byte(os.Getenv(inputEnv))); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
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
func childRun(input []byte) error {
	var in childInput
	if err := json.Unmarshal(input, &in); err != nil {
		return err
	}
	r, err := in.scene().request()
	if err != nil {
		return err
	}
	r.NoPreSnapshot = true
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

func childContinue(input []byte, end func(context.Context, Continue) (Result, error)) error {
	var in childInput
	if err := json.Unmarshal(input, &in); err != nil {
		return err
	}
	r, err := in.scene().request()
	if err != nil {
		return err
	}
	fsxtest.KillIfAsked()
	_, err = end(context.Background(), Continue{Store: r.Store})
	return err
}
