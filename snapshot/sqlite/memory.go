package sqlite

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A mapped database takes 40 % off its check where it stays in the page cache,
// and makes the check hundreds of times slower where it does not: each random
// page is then a fault of its own that throws out another one. So a database is
// mapped only where what the machine and every cgroup of this process have to
// spare holds it twice.

// mmapSize returns how much of a database of size bytes is to be mapped: all of
// it, or nothing.
func mmapSize(size int64) int64 {
	if size <= spareMemory("/")/2 {
		return size
	}
	return 0
}

// pageCacheKiB is SQLite's own cache where the database is not mapped.
const pageCacheKiB = 32 << 10

// spareMemory returns how many bytes the kernel could still use for pages of
// files without pushing others out, by the files of the root file system (for
// tests, of another directory). Zero where nothing tells.
func spareMemory(root string) int64 {
	spare := field(filepath.Join(root, "proc/meminfo"), "MemAvailable:") << 10
	groups, err := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return spare
	}
	for line := range bytes.Lines(groups) {
		parts := strings.SplitN(strings.TrimSpace(string(line)), ":", 3) // "0::/path", or "4:memory:/path" in version 1
		if len(parts) != 3 {
			continue
		}
		top, names := filepath.Join(root, "sys/fs/cgroup"), [2]string{"memory.max", "memory.current"}
		switch {
		case parts[1] == "memory":
			top, names = filepath.Join(top, "memory"), [2]string{"memory.limit_in_bytes", "memory.usage_in_bytes"}
		case parts[1] != "":
			continue
		}
		// A limit further up binds as well. In a container the path may be one of
		// the host's; then the group is at the top.
		for dir := filepath.Clean("/" + parts[2]); ; dir = filepath.Dir(dir) {
			if left, limited := cgroupSpare(filepath.Join(top, dir), names); limited {
				spare = min(spare, left)
			}
			if dir == "/" {
				break
			}
		}
	}
	return spare
}

// cgroupSpare returns what a cgroup may still use, pages of files that it would
// give back counted in, and whether it has a limit.
func cgroupSpare(dir string, names [2]string) (left int64, limited bool) {
	limit, ok := number(filepath.Join(dir, names[0]))
	if !ok {
		return 0, false
	}
	used, _ := number(filepath.Join(dir, names[1]))
	stat := filepath.Join(dir, "memory.stat")
	return max(0, limit-used+field(stat, "inactive_file")+field(stat, "active_file")), true
}

// number reads a file that holds one number; "max" is none.
func number(path string) (int64, bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	return n, err == nil
}

// field returns the number behind a name in a file of names and numbers; 0 where
// it is not there.
func field(path, name string) int64 {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) > 1 && words[0] == name {
			n, _ := strconv.ParseInt(words[1], 10, 64)
			return n
		}
	}
	return 0
}
