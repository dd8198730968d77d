package restore

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/tree"
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

// mountsBelow returns the mount points below dir, a path without symbolic links,
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

// checkMovable refuses a mount point that the swap would have to move or remove:
// it cannot, and what is mounted below a directory that it can move would be
// deleted together with the old copies.
func (r *Request) checkMovable(a *artifact, src *source) error {
	mounts, err := mountsBelow(a.dir)
	if err != nil || len(mounts) == 0 {
		return err
	}
	exchanged := map[string]bool{}
	if !a.whole() {
		// What comes is written into a file that is mounted there; only what
		// would have to go cannot.
		for _, suffix := range append([]string{""}, sidecars...) {
			exchanged[a.file+suffix] = true
		}
		entries, _, err := a.entries(src)
		if err != nil {
			return err
		}
		for _, e := range entries {
			delete(exchanged, e.rel)
		}
	}
	for _, mount := range mounts {
		rel, err := filepath.Rel(a.dir, mount)
		if err != nil {
			return err
		}
		first, _, _ := strings.Cut(rel, string(filepath.Separator))
		if a.whole() && !isExcluded(first) || exchanged[rel] {
			return r.refuse(
				fmt.Errorf("%s is a mount point, and the restore would have to move or remove it", mount),
				a.unmountHint(),
			)
		}
	}
	return nil
}

// isOverlay reports whether a directory lies on overlayfs, where a directory of
// a lower layer cannot be renamed (EXDEV) and a file's inode changes with the
// first write.
func isOverlay(d *tree.Dir) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(d.Fd(), &st) == nil && st.Type == unix.OVERLAYFS_SUPER_MAGIC
}
