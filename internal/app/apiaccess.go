package app

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
)

// ProveAPI proves that this process may read the snapshots that AtoCore makes, which
// belong to AtoCore's user and are copied into ours, as chroma_method = "api" needs.
func ProveAPI(backupDir string) error {
	dir := filepath.Join(backupDir, "snapshots")
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	foreign := false
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		info, err := os.Stat(path)
		if err != nil {
			continue
		}
		if s, ok := info.Sys().(*syscall.Stat_t); ok && int(s.Uid) != os.Geteuid() {
			foreign = true
			if err := readableBelow(path); err != nil {
				return &failure.Error{
					Subject: path,
					Kind:    failure.Config,
					Err: fmt.Errorf("%q needs to read what AtoCore makes: as %s: %w", "api",
						UserName(os.Geteuid()), err),
					Hint: `put its user into backup.atocore_group, or use chroma_method = "live"`,
				}
			}
		}
	}
	if !foreign && os.Geteuid() != 0 {
		return &failure.Error{Subject: dir, Kind: failure.Config,
			Err:  errors.New(`"api" is not proven: nothing of AtoCore's is there to try it on`),
			Hint: "have AtoCore make one first, by POST /admin/backup"}
	}
	return nil
}

// readableBelow fails where this process may not read a directory or something below
// it.
func readableBelow(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type()&fs.ModeSymlink != 0 {
			return err
		}
		how := uint32(unix.R_OK)
		if entry.IsDir() {
			how |= unix.X_OK
		}
		if err := unix.Faccessat(unix.AT_FDCWD, path, how, unix.AT_EACCESS); err != nil {
			return &fs.PathError{Op: "access", Path: path, Err: err}
		}
		return nil
	})
}

// UserName returns the name of a user, or its number where it has none.
func UserName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return "uid " + strconv.Itoa(uid)
}
