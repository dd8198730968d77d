package restore

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// containerID is how container engines name a container in a cgroup's path.
var containerID = regexp.MustCompile(`[0-9a-f]{64}`)

// containerOf returns the short id of the container that a process runs in; ""
// for none, or where its cgroup does not tell.
func containerOf(pid int) string {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return ""
	}
	id := containerID.Find(data)
	if id == nil {
		return ""
	}
	return string(id[:12])
}

// describeProcess names a process for people: its number, command and container.
func describeProcess(pid int, command string) string {
	if id := containerOf(pid); id != "" {
		return fmt.Sprintf("pid %d (%s, container %s)", pid, command, id)
	}
	return fmt.Sprintf("pid %d (%s)", pid, command)
}

// warnBystanders names the processes that still hold a mount of something that
// was moved aside: a container with a single file mounted goes on seeing the
// replaced one until it is started again. One process of each mount namespace is
// named.
func (s *session) warnBystanders() {
	aside := []byte("/" + workName(s.Stamp) + "/")
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	own, _ := os.Readlink("/proc/self/ns/mnt")
	told := map[string]bool{own: true}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		proc := filepath.Join("/proc", entry.Name())
		namespace, err := os.Readlink(filepath.Join(proc, "ns/mnt"))
		if err != nil || told[namespace] {
			continue
		}
		table, err := os.ReadFile(filepath.Join(proc, "mountinfo"))
		if err != nil || !bytes.Contains(table, aside) {
			continue
		}
		told[namespace] = true
		s.warn("%s has %s mounted and goes on seeing what was replaced: restart it",
			describeProcess(pid, commandOf(proc)), strings.Join(mountedFrom(table, aside), " and "))
	}
}

// mountedFrom lists the mount points of a mountinfo table whose source lies in a
// restore's workspace.
func mountedFrom(table, aside []byte) (points []string) {
	for line := range bytes.Lines(table) {
		// 36 35 98:0 /root/in/the/file/system /mount/point rw,noatime - ext4 /dev/sda1 rw
		fields := bytes.Fields(line)
		if len(fields) > 4 && bytes.Contains(fields[3], aside) {
			points = append(points, unescapeMount.Replace(string(fields[4])))
		}
	}
	slices.Sort(points)
	return slices.Compact(points)
}
