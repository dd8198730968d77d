package restore

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
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

// addWork adds every file in the workspaces of a restore.
func (w openFiles) addWork(s *session) {
	for _, t := range s.Sets {
		what := "database"
		if t.Whole {
			what = snapshot.Chroma
		}
		w.addTree(what, t.Work)
	}
}

// strandedUse returns an error of the given cause when a process has a file open that
// the exchange moved: the service was started in the middle of it, and would go on
// with files that nobody sees any more.
func (s *session) strandedUse(cause error) error {
	if s.Force {
		return nil
	}
	w := openFiles{}
	w.addWork(s)
	found, _, err := w.processes()
	if err != nil || len(found) == 0 {
		return err
	}
	return fmt.Errorf("%w: %w: stop it", cause, openIn(found[0]))
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
			found = append(found, h)
		}
	}
	return w.lasting(found), hidden, nil
}

// A child that was forked and has not begun its own program yet has whatever its
// parent has: for an instant, or on a busy machine for some more.
const (
	forkPatience = 500 * time.Millisecond
	forkPoll     = 20 * time.Millisecond
)

// lasting returns the holders that are still holders when there has been time for
// those to begin.
func (w openFiles) lasting(found []Holder) []Holder {
	for deadline := time.Now().Add(forkPatience); len(found) > 0 && time.Now().Before(deadline); time.Sleep(forkPoll) {
		found = slices.DeleteFunc(found, func(h Holder) bool {
			_, still, err := w.heldBy(h.PID)
			return err != nil || !still
		})
	}
	return found
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

// healthWait bounds one look at the health URL.
const healthWait = 3 * time.Second

// client talks to the service on this machine or this network: no proxy, and a
// redirect is an answer like any other.
var client = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// listening reports whether anything is there at url. Whatever accepts a
// connection counts, also when it then says nothing: a service that hangs has
// its database open all the same.
func listening(ctx context.Context, url string) bool {
	if url == "" {
		return false
	}
	_, err := get(ctx, url)
	var dial *net.OpError
	return err == nil || !(errors.As(err, &dial) && dial.Op == "dial") && ctx.Err() == nil
}

// get returns the status of a GET.
func get(ctx context.Context, url string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, healthWait)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, failure.WithoutURL(err)
	}
	answer, err := client.Do(request)
	if err != nil {
		return 0, failure.WithoutURL(err)
	}
	return answer.StatusCode, answer.Body.Close()
}

// openIn says who has what open.
func openIn(h Holder) error {
	return fmt.Errorf("%s is open in %s", h.What, describeProcess(h.PID, h.Command))
}

const stopHint = "stop it first, e.g. docker compose down"

// recheckUnused repeats, just before the swap or when one is taken up again, the
// look for processes that use the store.
func (s *session) recheckUnused(ctx context.Context, healthURL string, force bool) error {
	if force {
		return nil
	}
	w := openFiles{}
	w.addLive(s.Live, !s.NoChroma)
	w.addWork(s)
	use, err := w.firstUse(ctx, healthURL)
	if err != nil {
		return err
	}
	if use != nil {
		return refusal(string(s.Stamp), failure.Refused, use, stopHint)
	}
	return nil
}

// inUse returns what stands against replacing a store that is being used. With
// Force that is a warning only.
func (r *Request) inUse(ctx context.Context) (refusals []*failure.Error, warnings []string, err error) {
	w := openFiles{}
	w.addLive(r.Live, !r.NoChroma)
	found, hidden, err := w.processes()
	if err != nil {
		return nil, nil, err
	}
	for _, h := range found {
		if r.Force {
			warnings = append(
				warnings,
				openIn(h).Error()+": it will not see the restored store until it is started again",
			)
		} else {
			refusals = append(refusals, r.refuse(openIn(h), stopHint))
		}
	}
	if hidden > 0 {
		warnings = append(warnings, fmt.Sprintf("%d processes of other users could not be asked whether they have the "+
			"files open: run it with sudo to be sure", hidden))
	}
	switch answers := listening(ctx, r.HealthURL); {
	case answers && r.Force:
		warnings = append(warnings, answersAt(r.HealthURL).Error())
	case answers:
		refusals = append(refusals, r.refuse(answersAt(r.HealthURL), stopHint))
	}
	return refusals, warnings, nil
}

func answersAt(url string) error {
	return fmt.Errorf("the service answers at %s", failure.PublicURL(url))
}

// firstUse returns who has one of the files open or answers at the service's URL;
// nil for nobody.
func (w openFiles) firstUse(ctx context.Context, healthURL string) (use, err error) {
	found, _, err := w.processes()
	switch {
	case err != nil:
		return nil, err
	case len(found) > 0:
		return openIn(found[0]), nil
	case listening(ctx, healthURL):
		return answersAt(healthURL), nil
	}
	return nil, nil
}
