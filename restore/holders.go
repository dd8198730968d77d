package restore

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/snapshot"
)

// Holder is another process that has a file of the live store open.
type Holder struct {
	PID     int    `json:"pid"`
	Command string `json:"command"`
	What    string `json:"what"` // "database" or "chroma"
	Path    string `json:"path"`
}

// fileID identifies a file whatever name or mount it is reached by.
type fileID struct{ dev, ino uint64 }

// openFiles maps the files that nobody may have open to what they are.
type openFiles map[fileID]Holder

func (w openFiles) add(what, path string) {
	var st unix.Stat_t
	if unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
		w[fileID{st.Dev, st.Ino}] = Holder{What: what, Path: path}
	}
}

// addTree adds every file below dir. What vanishes meanwhile needs no watch.
func (w openFiles) addTree(what, dir string) {
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			w.add(what, path)
		}
		return nil
	})
}

func (w openFiles) addLive(live Live, chroma bool) {
	for _, suffix := range append([]string{""}, sidecars...) {
		w.add("database", live.DB+suffix)
	}
	if chroma && live.Chroma != "" {
		w.addTree(snapshot.Chroma, live.Chroma)
	}
}

// processes finds the other processes that have a watched file open or mapped, by
// device and inode, so that a container's own path to it makes no difference.
// hidden counts the processes that this one may not look into.
func (w openFiles) processes() (found []Holder, hidden int, err error) {
	if len(w) == 0 {
		return nil, 0, nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, 0, fmt.Errorf("find out who has the files open: %w", err)
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		h, held, err := w.heldBy(pid)
		switch {
		case errors.Is(err, fs.ErrPermission):
			hidden++
		case err != nil: // it has ended meanwhile
		case held:
			// A child that was forked and has not begun its own program yet has
			// for an instant whatever its parent has, so a second look counts.
			if _, still, err := w.heldBy(pid); err == nil && still {
				found = append(found, h)
			}
		}
	}
	return found, hidden, nil
}

func (w openFiles) heldBy(pid int) (h Holder, held bool, err error) {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	descriptors, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		return Holder{}, false, err
	}
	for _, d := range descriptors {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(proc, "fd", d.Name()), &st) != nil {
			continue
		}
		if h, held = w[fileID{st.Dev, st.Ino}]; held {
			break
		}
	}
	if !held {
		h, held = w.mappedBy(proc)
	}
	if held {
		h.PID, h.Command = pid, commandOf(proc)
	}
	return h, held, nil
}

// mappedBy looks for a file that was mapped and whose descriptor was closed.
// On btrfs and overlayfs the device in maps is not the one of stat(2), so there
// only descriptors are found.
func (w openFiles) mappedBy(proc string) (Holder, bool) {
	data, err := os.ReadFile(filepath.Join(proc, "maps"))
	if err != nil {
		return Holder{}, false
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		// 7f8a-7f8b r--s 00000000 fe:00 393219    /path
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 {
			continue
		}
		var major, minor uint32
		if _, err := fmt.Sscanf(fields[3], "%x:%x", &major, &minor); err != nil {
			continue
		}
		ino, err := strconv.ParseUint(fields[4], 10, 64)
		if err != nil {
			continue
		}
		if h, ok := w[fileID{unix.Mkdev(major, minor), ino}]; ok {
			return h, true
		}
	}
	return Holder{}, false
}

func commandOf(proc string) string {
	data, err := os.ReadFile(filepath.Join(proc, "comm"))
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(data))
}
