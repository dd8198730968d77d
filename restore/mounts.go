package restore

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/atocore/atobackupd/internal/fsx"
)

// isMountPoint compares mounts, not devices: a bind mount of one file system
// into itself has the same device and cannot be renamed either.
func isMountPoint(path string) (bool, error) {
	own, err := fsx.MountID(path)
	if err != nil {
		return false, err
	}
	parent, err := fsx.MountID(filepath.Dir(path))
	return own != parent, err
}

// mountsBelow gives the mount points below dir, a path without symbolic links,
// at any depth. They come from the kernel's own table: asking each of 100,000
// files takes as long as to read them.
func mountsBelow(dir string) (found []string, err error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("find out what is mounted: %w", err)
	}
	for line := range strings.Lines(string(table)) {
		// 36 35 98:0 /root/in/the/file/system /mount/point rw,noatime - ext4 /dev/sda1 rw
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		path := unescapeMount.Replace(fields[4])
		if !strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/") {
			continue
		}
		// One that a later mount hides is listed, and in nobody's way.
		if seen, err := isMountPoint(path); err == nil && seen {
			found = append(found, path)
		}
	}
	return found, nil
}

// unescapeMount undoes how the table writes what would break its lines.
var unescapeMount = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// unmovable gives a mount point that the swap would have to move or remove: it
// cannot, and what is mounted below a directory that it can move would be
// deleted together with the old copies.
func (p part) unmovable(src *source) (path string, err error) {
	mounts, err := mountsBelow(p.dir)
	if err != nil || len(mounts) == 0 {
		return "", err
	}
	exchanged := map[string]bool{}
	if !p.whole() {
		// What comes is written into a file that is mounted there; only what
		// would have to go cannot.
		names := []string{p.name}
		for _, suffix := range sidecars {
			names = append(names, p.name+suffix)
		}
		for _, name := range names {
			exchanged[name] = true
		}
		entries, err := p.entries(src)
		if err != nil {
			return "", err
		}
		for _, e := range entries {
			delete(exchanged, e.rel)
		}
	}
	for _, mount := range mounts {
		rel, err := filepath.Rel(p.dir, mount)
		if err != nil {
			return "", err
		}
		first, _, _ := strings.Cut(rel, string(filepath.Separator))
		if p.whole() && !leftAlone(first) || exchanged[rel] {
			return mount, nil
		}
	}
	return "", nil
}
