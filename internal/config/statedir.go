package config

import (
	"os"
	"path/filepath"
	"regexp"
)

var stateDirLine = regexp.MustCompile(`(?m)^\s*state_dir\s*=\s*["'](/[^"'\n]*)["']`)

// GuessStateDir returns the state directory of a configuration that cannot be
// read: what systemd says that it is, what a line of the file says, or the
// default.
func GuessStateDir(path string) string {
	if dir := os.Getenv("STATE_DIRECTORY"); filepath.IsAbs(dir) {
		return dir
	}
	if data, _, err := read(path); err == nil {
		if m := stateDirLine.FindSubmatch(data); m != nil && !hasDotDot(string(m[1])) {
			return filepath.Clean(string(m[1]))
		}
	}
	return Default().StateDir
}
