// Package demo plays the whole life of a backup in a temporary directory, with
// real parts and without root: a live store with a writer at work, snapshots,
// retention, a second machine reached over SSH, a disaster, and the restore from
// the vault. It is what a newcomer runs first, so it is written to be read; and
// it fails loudly when any step does.
//
// The Chroma directory that it starts from, chroma.tar.gz, was made by a real
// Chroma server 1.3.4: 60 vectors of 4 dimensions in one collection.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/daemon"
	"github.com/atocore/atobackupd/snapshot"
)

// Options says where the story is told.
type Options struct {
	Out        io.Writer
	Executable string // this program, for the writer's own process
	Version    string
	Keep       bool // leave the directory behind, to look around in
}

// story is the state that goes from step to step.
type story struct {
	Options
	dir    string
	step   int
	app    *daemon.App
	writer *writer

	identity string // the secret key's file, which the host does not use
	stop     []func()

	daily, weekly  daemon.Taken
	weeklyManifest *snapshot.Manifest // what must come back
	committed      int64              // transactions acknowledged before the weekly snapshot began
}

// Run plays the story. It leaves nothing behind unless Keep says so.
func Run(ctx context.Context, o Options) (err error) {
	dir, err := os.MkdirTemp("", "atobackupd-demo-")
	if err != nil {
		return err
	}
	s := &story{Options: o, dir: dir}
	defer func() {
		for i := len(s.stop) - 1; i >= 0; i-- {
			s.stop[i]()
		}
		if !o.Keep {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	start := time.Now()
	fmt.Fprintf(o.Out, "atobackupd demo: the life of a backup, played in %s\n\n", dir)
	for _, step := range []struct {
		title string
		play  func(context.Context) error
	}{
		{"a store", s.makeStore},
		{"keys", s.makeKeys},
		{"a second machine", s.startSecondMachine},
		{"daily snapshot", s.takeDaily},
		{"weekly snapshot", s.takeWeekly},
		{"validation", s.validate},
		{"half a year", s.pruneHistory},
		{"off-site", s.ship},
		{"disaster", s.loseStore},
		{"restore", s.restore},
		{"comparison", s.compare},
	} {
		s.step++
		fmt.Fprintf(o.Out, "%2d  %-17s ", s.step, step.title)
		if err := step.play(ctx); err != nil {
			fmt.Fprintln(o.Out, "FAILED")
			return fmt.Errorf("demo: step %d, %s: %w", s.step, step.title, err)
		}
	}
	fmt.Fprintf(o.Out, "\nEvery step was real, and it took %.1f s. ", time.Since(start).Seconds())
	if o.Keep {
		fmt.Fprintf(o.Out, "Look around: atobackupd --config %s list\n", s.path("config.toml"))
	} else {
		fmt.Fprintln(o.Out, "Nothing is left behind; --keep leaves it to look around in.")
	}
	return nil
}

// say ends the line of a step.
func (s *story) say(format string, args ...any) { fmt.Fprintf(s.Out, format+"\n", args...) }

// more adds a line to the step above.
func (s *story) more(format string, args ...any) {
	fmt.Fprintf(s.Out, "%22s%s\n", "", fmt.Sprintf(format, args...))
}

func (s *story) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

func (s *story) onEnd(undo func()) { s.stop = append(s.stop, undo) }

func (s *story) takeDaily(ctx context.Context) (err error) {
	if s.daily, err = s.app.Backup(ctx, snapshot.Daily, false, time.Now()); err != nil {
		return err
	}
	s.say("%s  %s in %d ms, while the writer wrote", s.daily.Stamp, size(s.daily.Bytes), s.daily.DurationMS)
	return nil
}

func (s *story) takeWeekly(ctx context.Context) (err error) {
	s.committed = s.writer.committed()
	if s.weekly, err = s.app.Backup(ctx, snapshot.Weekly, true, time.Now()); err != nil {
		return err
	}
	if s.weeklyManifest, err = snapshot.ReadManifest(s.weekly.Path); err != nil {
		return err
	}
	s.say("%s  %s in %d ms, with Chroma (%s)", s.weekly.Stamp, size(s.weekly.Bytes), s.weekly.DurationMS, s.weeklyManifest.Artifacts[snapshot.Chroma].Method)
	return nil
}

func (s *story) validate(ctx context.Context) error {
	result, err := s.app.Validate(ctx, s.weekly.Stamp)
	if err != nil {
		return err
	}
	if !result.Valid {
		return fmt.Errorf("%s is not valid: %v", s.weekly.Stamp, result.Errors)
	}
	s.say("read again from disk: %s: all good", strings.Join(result.Checked, ", "))
	return nil
}
