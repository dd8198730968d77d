package history

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// owner names this process for as long as anybody may ask: the boot, the pid,
// and when it started, since pids come round again.
var owner = sync.OnceValue(func() string {
	pid := os.Getpid()
	start, err := startTime(pid)
	if err != nil {
		start = "?"
	}
	return fmt.Sprintf("%s/%d/%s", bootID(), pid, start)
})

// alive reports whether the process that an owner names still runs. One that has
// ended and that nobody has waited for yet does not. Where /proc hides other users'
// processes the pid alone must do.
func alive(name string) bool {
	part := strings.Split(name, "/")
	if len(part) != 3 || part[0] != bootID() {
		return false
	}
	pid, err := strconv.Atoi(part[1])
	if err != nil || pid <= 0 {
		return false
	}
	if start, err := startTime(pid); err == nil {
		return start == part[2]
	}
	err = syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "?"
	}
	return strings.TrimSpace(string(id))
}

// startTime returns when a process started, in clock ticks since the boot: the
// 22nd field of its stat, counted behind the name, which may hold anything; "" of one
// that has ended and was not waited for.
func startTime(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " ")
	fields := strings.Fields(rest)
	const start = 22 - 3
	if len(fields) <= start {
		return "", fmt.Errorf("/proc/%d/stat is too short", pid)
	}
	if fields[0] == "Z" {
		return "", nil // it has ended
	}
	return fields[start], nil
}
