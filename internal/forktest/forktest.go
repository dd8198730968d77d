// Package forktest runs a test binary again in another role, because a kill, a
// lock, an open file, a user and a mount namespace each belong to a process.
//
// A package's TestMain names its roles, and its tests start them:
//
//	func TestMain(m *testing.M) {
//		os.Exit(forktest.Main(m.Run, map[string]forktest.Role{"write": forktest.JSON(beWriter)}))
//	}
//
//	writer := forktest.Start(t, forktest.Command("write", job{Path: path}))
//	writer.Line() // what it says first
//	writer.Kill() // as a crash would
//
// The files of the package: forktest.go has roles and commands, child.go the
// processes that run beside a test, and namespace.go their mounts and users.
package forktest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// The environment of a process in a role; shell scripts of rig tests set it too.
const (
	roleEnv  = "FORKTEST_ROLE"
	inputEnv = "FORKTEST_INPUT"
)

// Role is what a process does instead of running tests, with the input that
// Command gave it.
type Role func(input []byte) error

// JSON returns a Role whose input is JSON for a T.
func JSON[T any](play func(T) error) Role {
	return func(input []byte) error {
		var in T
		if err := json.Unmarshal(input, &in); err != nil {
			return err
		}
		return play(in)
	}
}

// Main runs the tests, or the role that Command made this process for, and
// returns the exit status. A role's error is printed on standard error.
func Main(tests func() int, roles map[string]Role) int {
	name, asked := os.LookupEnv(roleEnv)
	if !asked {
		return tests()
	}
	play, known := roles[name]
	if !known {
		fmt.Fprintf(os.Stderr, "error: this test binary has no role %q\n", name)
		return 1
	}
	if err := play([]byte(os.Getenv(inputEnv))); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	}
	return 0
}

// Command prepares a run of this binary in a role, with input as JSON and with
// more entries of the environment. The binary is reached by a path that works
// for users too who cannot search the directory that it was built in.
func Command(role string, input any, env ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(append(os.Environ(), roleEnv+"="+role, inputEnv+"="+marshal(input)), env...)
	return cmd
}

// Argv is Command as the words of a command line, for programs that run others.
func Argv(role string, input any) []string {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return []string{"env", roleEnv + "=" + role, inputEnv + "=" + marshal(input), self}
}

func marshal(input any) string {
	data, err := json.Marshal(input)
	if err != nil {
		panic(err)
	}
	return string(data)
}

// Become replaces this process by one in the same role with another input: for
// what only a new program can lose, such as a capability of the bounding set.
func Become(input any) error {
	if err := os.Setenv(inputEnv, marshal(input)); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", os.Args, os.Environ())
}
