package forktest

import (
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// NeedsNamespaces is what to say where a command of OwnMounts could not start.
const NeedsNamespaces = "this test mounts in a namespace of its own: it needs root, or unprivileged user namespaces"

// OwnMounts has a command run with mounts of its own, which nobody else sees and
// which end with it. Without root it also gets a user namespace, in which it may mount.
func OwnMounts(cmd *exec.Cmd) *exec.Cmd {
	attr := attributes(cmd)
	attr.Cloneflags |= syscall.CLONE_NEWNS
	if os.Geteuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return cmd
}

// OwnProcesses is OwnMounts with process ids of its own too: what the command
// starts ends with it.
func OwnProcesses(cmd *exec.Cmd) *exec.Cmd {
	OwnMounts(cmd).SysProcAttr.Cloneflags |= syscall.CLONE_NEWPID
	return cmd
}

// PrivateMounts keeps the mounts that a role of OwnMounts makes from spreading.
func PrivateMounts() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }

// OwnProc shows a role of OwnProcesses none but its own processes in /proc.
func OwnProc() error {
	if err := PrivateMounts(); err != nil {
		return err
	}
	return unix.Mount("proc", "/proc", "proc", 0, "")
}

// Room mounts a file system in memory in a new directory, which a role of
// OwnMounts has to itself.
func Room() (string, error) {
	if err := PrivateMounts(); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "forktest-room-")
	if err != nil {
		return "", err
	}
	return dir, unix.Mount("tmpfs", dir, "tmpfs", 0, "")
}

// BindOver mounts a directory or file over itself: the same inodes in another
// mount.
func BindOver(path string) error { return unix.Mount(path, path, "", unix.MS_BIND, "") }
