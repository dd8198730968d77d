package chroma

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/tree"
)

// DefaultFreezeDeadline bounds a freeze where Freeze does not.
const DefaultFreezeDeadline = 10 * time.Minute

// Freeze says how the service is stopped for a moment and set going again.
type Freeze struct {
	Command  []string      // argv that stops it, such as docker pause
	Thaw     []string      // argv that sets it going again
	Deadline time.Duration // of one freeze; past it the service is thawed. 0 means DefaultFreezeDeadline
	// Marker is a file that stands from before the freeze until the thaw has
	// succeeded, so that ThawLeftover can do after a crash what was not done.
	Marker string
}

// How a frozen service is set going again, and how often it is frozen.
const (
	freezeTries  = 20                     // freezes that met a persist before giving up
	thawTries    = 5                      // of the thaw command, before it is left to the next start
	thawPause    = 500 * time.Millisecond // before the second of them; it doubles
	thawTimeout  = time.Minute            // of one
	killPatience = 5 * time.Second        // for the output of a command that was killed
)

// CopyFrozen copies the Chroma directory src to dst, which must not exist,
// while a command keeps the service from running. A service may be stopped in
// the middle of a persist, which its files show: then it is thawed, and frozen
// again a moment later. It is thawed whatever happens: when the copy ends, when
// it fails, when ctx ends, when the deadline passes although the copy hangs, and
// after a crash by ThawLeftover. A thaw that does not succeed is an error, and
// leaves the marker.
//
// The service is frozen only while bytes are copied: they are made durable and
// judged after the thaw, like those of CopyCold. Copied.Locked tells how long
// the longest freeze was.
func CopyFrozen(ctx context.Context, src *tree.Dir, dst string, f Freeze, o Options) (Copied, error) {
	if len(f.Command) == 0 || len(f.Thaw) == 0 {
		return Copied{}, &failure.Error{Op: "chroma", Subject: src.Path(), Kind: failure.Config,
			Err:  errors.New("there is no command to freeze the service, or none to thaw it"),
			Hint: "set backup.freeze_command and backup.thaw_command"}
	}
	if f.Deadline <= 0 {
		f.Deadline = DefaultFreezeDeadline
	}
	return copyAndJudge(ctx, src, dst, o, instantTries, func() (Copied, error) {
		for try := 1; ; try++ {
			c, why, err := copyInFreeze(ctx, src, dst, f, o)
			if err != nil || why == "" {
				return c, err
			}
			if try == freezeTries {
				return c, &failure.Error{
					Op:      "chroma",
					Subject: src.Path(),
					Err:     fmt.Errorf("none of %d freezes met a quiet moment (%s)", try, why),
					Hint:    "try again when the service writes less",
				}
			}
		}
	})
}

// copyInFreeze makes one copy in one freeze; why tells that the freeze met a
// persist, or a service that went on writing, and nothing is left of a copy.
func copyInFreeze(ctx context.Context, src *tree.Dir, dst string, f Freeze, o Options) (
	c Copied,
	why string,
	err error,
) {
	if err := awaitCalm(ctx, src); err != nil {
		return c, "", err
	}
	bounded, cancel := context.WithTimeout(ctx, f.Deadline)
	defer cancel()
	frozen, err := f.freeze(bounded)
	if err != nil {
		return c, "", err
	}
	defer func() {
		frozen.timer.Stop()
		if thawErr := frozen.thaw(); !errors.Is(err, thawErr) {
			err = errors.Join(err, thawErr)
		}
	}()
	if err := awaitStandstill(bounded, src); err != nil {
		return c, "", f.outOfTime(ctx, bounded, src, err)
	}
	if _, why, err = PersistUnderWay(src); err != nil || why != "" {
		return c, why, err
	}
	m, err := copyQuiescent(bounded, src, dst, o)
	if failure.KindOf(err) == failure.Refused && bounded.Err() == nil {
		return c, err.Error(), fsx.RemoveAll(dst) // it was not frozen whole
	}
	if err != nil {
		return c, "", f.outOfTime(ctx, bounded, src, err)
	}
	if bounded.Err() != nil { // it was thawed before the copy was whole
		return c, "", f.outOfTime(ctx, bounded, src, bounded.Err())
	}
	if err := frozen.thaw(); err != nil {
		return c, "", err
	}
	c, err = conclude(ctx, m, string(MethodFreeze))
	c.Locked = frozen.lasted
	return c, "", err
}

// outOfTime says of an error that it was the deadline's, where it was.
func (f Freeze) outOfTime(ctx, bounded context.Context, src *tree.Dir, err error) error {
	if bounded.Err() == nil || ctx.Err() != nil {
		return err
	}
	return &failure.Error{
		Op:      "chroma",
		Subject: src.Path(),
		Err:     fmt.Errorf("no copy within %s, after which the service was thawed: %w", f.Deadline, err),
		Hint:    "raise backup.freeze_deadline",
	}
}

// awaitCalm waits a while for a moment between two persists, in which a freeze
// is worth the trouble.
func awaitCalm(ctx context.Context, src *tree.Dir) error {
	for end := time.Now().Add(idleTimeout); ; {
		underWay, _, err := PersistUnderWay(src)
		if err != nil || !underWay || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(idlePoll):
		}
	}
}

// awaitStandstill waits until what was under way when the service was frozen
// has arrived: a thread that waits for the disk stops only after that.
func awaitStandstill(ctx context.Context, src *tree.Dir) error {
	for end := time.Now().Add(idleTimeout); ; {
		entries, err := Walk(src)
		if err != nil || justWritten(entries, time.Now()) == "" || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(idlePoll):
		}
	}
}

// frozen is a service that does not run until thaw is called.
type frozen struct {
	f      Freeze
	since  time.Time
	lasted time.Duration // known after thaw
	timer  *time.Timer
	once   sync.Once
	err    error
}

// freeze stops the service, having written down first how it is set going
// again. From then on it is thawed by itself when ctx ends.
func (f Freeze) freeze(ctx context.Context) (*frozen, error) {
	if err := f.mark(); err != nil {
		return nil, err
	}
	z := &frozen{f: f, since: time.Now()}
	// Not by the context alone: a read that hangs on a broken disk ends for no
	// context, and the service must run all the same.
	z.timer = time.AfterFunc(f.Deadline, func() { _ = z.thaw() })
	if err := runCommand(ctx, f.Command); err != nil {
		err = &failure.Error{Op: "chroma", Subject: "freeze_command", Err: err, Hint: "run it by hand and see"}
		z.timer.Stop()
		return nil, errors.Join(err, z.thaw()) // it may have frozen something before it failed
	}
	return z, nil
}

// thaw sets the service going again, once; it returns the same answer each time.
func (z *frozen) thaw() error {
	z.once.Do(func() {
		z.err = thaw(z.f.Thaw, z.f.Marker, thawTries)
		z.lasted = time.Since(z.since)
	})
	return z.err
}

// thaw runs the command until it succeeds and then removes the marker. No
// context ends it: whoever is in a hurry wants the service to run.
func thaw(command []string, marker string, tries int) (err error) {
	for try, pause := 1, thawPause; ; try, pause = try+1, 2*pause {
		ctx, cancel := context.WithTimeout(context.Background(), thawTimeout)
		err = runCommand(ctx, command)
		cancel()
		if err == nil {
			return removeMarker(marker)
		}
		if try == tries {
			return &failure.Error{
				Op:      "chroma",
				Subject: "thaw_command",
				Err:     fmt.Errorf("the service may still be frozen: %w", err),
				Hint:    "run it by hand: " + strings.Join(command, " "),
			}
		}
		time.Sleep(pause)
	}
}

// marker is what stands while a service is frozen. It says that something is to
// be thawed, never how: a command that is read from a file would be run for
// whoever can write the file.
type marker struct {
	Since time.Time `json:"since"`
	PID   int       `json:"pid"`
}

// maxMarker bounds how much of a marker is read.
const maxMarker = 4 << 10

func (f Freeze) mark() error {
	if f.Marker == "" {
		return nil
	}
	data, err := json.Marshal(marker{Since: time.Now().UTC(), PID: os.Getpid()})
	if err != nil {
		return err
	}
	return fsx.WriteFile(f.Marker, append(data, '\n'), 0o600)
}

func removeMarker(path string) error {
	if path == "" {
		return nil
	}
	if err := fsx.Announce(fsx.OpRemove, path); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return fsx.SyncDir(filepath.Dir(path))
}

// ThawLeftover sets going again, by the configured command, what a process froze
// that died before it could thaw it, and reports whether there was anything to
// do. Only a marker of one of the owners counts. The caller makes sure that no
// freeze is under way. A service that runs already may refuse to be thawed: that
// is an error too, and nothing worse.
func ThawLeftover(path string, command []string, owners tree.Owners) (thawed bool, err error) {
	m, err := readMarker(path, owners)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil && len(command) == 0 {
		err = errors.New("backup.thaw_command is not configured any more")
	}
	if err != nil {
		return false, &failure.Error{
			Op:      "chroma",
			Subject: path,
			Err:     fmt.Errorf("a service may still be frozen: %w", err),
			Hint:    "set it going by hand, then remove the file",
		}
	}
	if err := thaw(command, path, 1); err != nil {
		return false, fmt.Errorf(
			"frozen at %s by process %d, which is gone: %w",
			m.Since.Format(time.RFC3339),
			m.PID,
			err,
		)
	}
	return true, nil
}

func readMarker(path string, owners tree.Owners) (m marker, err error) {
	dir, name, err := tree.OpenParent(path, owners)
	if err != nil {
		return m, err
	}
	defer dir.Close()
	f, err := dir.OpenFile(name)
	if err != nil {
		return m, err
	}
	defer f.Close()
	info, err := tree.FileInfo(f)
	if err != nil {
		return m, err
	}
	if !owners.Has(info.UID) {
		return m, fmt.Errorf("the marker belongs to uid %d, whose word does not count", info.UID)
	}
	data, err := tree.ReadAll(f, maxMarker)
	if err != nil {
		return m, err
	}
	return m, json.Unmarshal(data, &m)
}

// maxOutput bounds what of a command's output gets into an error.
const maxOutput = 2 << 10

// runCommand runs a program to its end, or until ctx ends: then it and all that
// it has started are killed.
func runCommand(ctx context.Context, argv []string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = killPatience
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		return nil // it ended well, and something that it left running holds its output
	}
	if err == nil {
		return nil
	}
	said := bytes.TrimSpace(output.Bytes())
	if len(said) > maxOutput {
		said = said[len(said)-maxOutput:]
	}
	if ctx.Err() != nil {
		err = errors.Join(ctx.Err(), err)
	}
	return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, said)
}
