package dir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// vaultFile is what a disk with a vault has.
const vaultFile = "vault.json"

// fstab is where an administrator says what is mounted where.
var fstab = "/etc/fstab"

// OpenRemovable is Open for a directory on a disk that is not always there: when
// it is away the error is of kind Unreachable, as of a machine that sleeps.
// hasVault says that a vault was made there, so that a directory without one is
// the bare mount point. With create a directory that is missing is made, on a disk
// that is mounted right above it and nowhere else.
func OpenRemovable(path string, hasVault, create bool, owners tree.Owners) (*Remote, error) {
	if point := unmounted(path); point != "" {
		return nil, away(path, fmt.Errorf("nothing is mounted on %s", point))
	}
	root, err := openRoot(path, owners)
	missing := errors.Is(err, fs.ErrNotExist)
	switch {
	case missing && create && isMountPoint(filepath.Dir(path)):
		return Create(path, owners)
	case missing && !isMountPoint(filepath.Dir(path)), missing && hasVault:
		return nil, away(path, errors.New("there is no such directory"))
	case errors.Is(err, syscall.EIO), errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ENXIO):
		return nil, away(path, cause(err)) // pulled without being unmounted
	case err != nil:
		return Open(path, owners) // which explains it
	}
	if hasVault {
		if _, err := root.Lstat(vaultFile); errors.Is(err, fs.ErrNotExist) {
			root.Close()
			return nil, away(path, errors.New("the vault that was made there is not in it"))
		}
	}
	return newRemote(path, root), nil
}

func away(path string, why error) error {
	return &failure.Error{
		Op: "open vault directory", Subject: path, Kind: failure.Unreachable,
		Err: fmt.Errorf("its disk is not there: %w", why), Hint: "plug it in and mount it; it is tried again later",
	}
}

// unmounted returns the mount point above path on which fstab wants something and
// nothing is mounted, or "".
func unmounted(path string) string {
	table, err := os.ReadFile(fstab)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		if len(fields) < 3 || strings.HasPrefix(fields[0], "#") || !strings.HasPrefix(fields[1], "/") {
			continue
		}
		// Blanks in a name are written in octal.
		point := filepath.Clean(strings.NewReplacer(`\040`, " ", `\011`, "\t", `\134`, `\`).Replace(fields[1]))
		if point != "/" && (path == point || strings.HasPrefix(path, point+"/")) && !isMountPoint(point) {
			return point
		}
	}
	return ""
}

// isMountPoint reports whether a directory is the root of a mount.
func isMountPoint(dir string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, dir, 0, 0, &st)
	return err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}
