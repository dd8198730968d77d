// Command demo plays the whole life of a backup in a temporary directory, with
// real parts and without root: a live store with a writer at work, snapshots,
// retention, a second machine reached over SSH, a disaster, and the restore from
// the vault. It is what a newcomer runs first (`make demo`), so it is written to
// be read; and it fails loudly when any step does. The second machine's SSH
// server lies below it: the shipped program contains none.
//
// The Chroma directory that it starts from, chroma.tar.gz, was made by a real
// Chroma server 1.3.4: 60 vectors of 4 dimensions in one collection.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	_ "time/tzdata" // there may be no zoneinfo

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/snapshot"
)

func main() {
	keep := flag.Bool("keep", false, "leave the directory behind, to look around in")
	writerPath := flag.String("writer", "", "be the writing process, on this `database`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := errors.New("it takes no arguments, only -keep")
	switch {
	case *writerPath != "":
		err = write(ctx, *writerPath, os.Stdout)
	case flag.NArg() == 0:
		err = play(ctx, os.Stdout, *keep)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		stop()
		os.Exit(1)
	}
}

// story is the state that goes from step to step.
type story struct {
	out    io.Writer
	dir    string
	step   int
	app    *app.App
	writer *writer

	identity string // the secret key's file, which the host does not use
	stop     []func()

	daily, weekly  app.Taken
	weeklyManifest *snapshot.Manifest // what must come back
	committed      int64              // transactions acknowledged before the weekly snapshot began
}

// play tells the story. It leaves nothing behind unless keep says so.
func play(ctx context.Context, out io.Writer, keep bool) (err error) {
	dir, err := os.MkdirTemp("", "atobackupd-demo-")
	if err != nil {
		return err
	}
	s := &story{out: out, dir: dir}
	defer func() {
		for i := len(s.stop) - 1; i >= 0; i-- {
			s.stop[i]()
		}
		if !keep {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	start := time.Now()
	fmt.Fprintf(out, "the life of a backup, played in %s\n\n", dir)
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
		fmt.Fprintf(out, "%2d  %-17s ", s.step, step.title)
		if err := step.play(ctx); err != nil {
			fmt.Fprintln(out, "FAILED")
			return fmt.Errorf("step %d, %s: %w", s.step, step.title, err)
		}
	}
	fmt.Fprintf(out, "\nEvery step was real, and it took %.1f s. ", time.Since(start).Seconds())
	if keep {
		fmt.Fprintf(out, "Look around: atobackupd --config %s list\n", s.path("config.toml"))
	} else {
		fmt.Fprintln(out, "Nothing is left behind; -keep leaves it to look around in.")
	}
	return nil
}

// say ends the line of a step.
func (s *story) say(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }

// more adds a line to the step above.
func (s *story) more(format string, args ...any) {
	fmt.Fprintf(s.out, "%22s%s\n", "", fmt.Sprintf(format, args...))
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
	s.say("%s  %s in %d ms, with Chroma (%s)", s.weekly.Stamp, size(s.weekly.Bytes), s.weekly.DurationMS,
		s.weeklyManifest.Artifacts[snapshot.Chroma].Method)
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
