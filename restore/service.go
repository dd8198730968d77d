package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
)

// Service is how the application is stopped and started around a restore, and
// what must hold when it runs again.
type Service struct {
	Stop, Start    []string      // argument lists; no shell reads them
	HealthTimeout  time.Duration // for the health URL and the checks; 0 is one minute
	CommandTimeout time.Duration // for one command; 0 is five minutes
	FreeTimeout    time.Duration // for the files to be closed after Stop; 0 is one minute
	Checks         []Check
}

// The defaults of the timeouts above, and how often is looked.
const (
	defaultHealthTimeout  = time.Minute
	defaultCommandTimeout = 5 * time.Minute
	defaultFreeTimeout    = time.Minute
	lookAgain             = 200 * time.Millisecond
)

func orDefault(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// stopPatience is how long an interruption waits for the end of the stop command:
// longer than the grace that Docker gives a container.
const stopPatience = 30 * time.Second

// stop runs the stop command. An interruption lets it end: Docker goes on stopping
// for a command that was killed, moments later and behind whoever has started the
// service again.
func (r *Request) stop(ctx context.Context) error {
	r.Progress.Tell("stop the service", 0, 0)
	stopping, cancel := outlasting(ctx, stopPatience)
	defer cancel()
	if err := r.Service.command(stopping, "restore.stop_command", r.Service.Stop); err != nil {
		return err
	}
	return ctx.Err()
}

// outlasting returns a context that is cancelled some time after ctx is.
func outlasting(ctx context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	later, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if pause(later, by) == nil {
			cancel()
		}
	})
	return later, func() { stop(); cancel() }
}

func (r *Request) start(ctx context.Context) error {
	r.Progress.Tell("start the service", 0, 0)
	err := r.Service.command(ctx, "restore.start_command", r.Service.Start)
	if err == nil {
		return nil
	}
	what := "THE SERVICE IS DOWN: it could not be started"
	if listening(ctx, r.HealthURL) { // it was never stopped
		what = "the service answers, although it could not be started"
	}
	return &failure.Error{
		Op:      "restore",
		Subject: string(r.Stamp),
		Err:     fmt.Errorf("%s: %w", what, err),
		Hint:    "start it by hand: " + strings.Join(r.Service.Start, " "),
	}
}

// startAgain starts the service on the store that it had, and tells when it is not
// well there.
func (r *Request) startAgain(ctx context.Context) error {
	if err := r.start(ctx); err != nil {
		return err
	}
	ctx, cancel := r.inTime(ctx)
	defer cancel()
	err := r.waitHealthy(ctx)
	if err == nil {
		return nil
	}
	return &failure.Error{
		Op:      "restore",
		Subject: string(r.Stamp),
		Err:     fmt.Errorf("the service was started again, and is not well: %w", err),
		Hint:    "see that it runs: " + strings.Join(r.Service.Start, " "),
	}
}

// isDown says that the service was left stopped.
func (r *Request) isDown() error {
	return &failure.Error{
		Op:      "restore",
		Subject: string(r.Stamp),
		Err:     errors.New("THE SERVICE IS DOWN: its store is between old and new"),
		Hint:    "once the restore is finished or taken back: " + strings.Join(r.Service.Start, " "),
	}
}

// waitFree waits until no other process has a file of the store open, or one that
// s has moved.
func (r *Request) waitFree(ctx context.Context, s *session) error {
	if r.Force {
		return nil
	}
	r.Progress.Tell("wait for the files to be free", 0, 0)
	deadline := time.Now().Add(orDefault(r.Service.FreeTimeout, defaultFreeTimeout))
	for {
		w := openFiles{}
		w.addLive(r.Live, !r.NoChroma)
		w.addWork(s)
		use, err := w.firstUse(ctx, r.HealthURL)
		if err != nil {
			return r.notRestored("the service was stopped", err)
		}
		if use == nil {
			return nil
		}
		if !time.Now().Before(deadline) {
			return r.refuse(use, "restore.stop_command did not stop everything that uses the store")
		}
		if err := pause(ctx, lookAgain); err != nil {
			return err
		}
	}
}

// runs starts the service, which is not cancelled any more, and finds out whether
// it is well.
func (r *Request) runs(always, ctx context.Context) error {
	if err := r.start(always); err != nil {
		return err
	}
	ctx, cancel := r.inTime(ctx)
	defer cancel()
	if err := r.waitHealthy(ctx); err != nil {
		return err
	}
	for _, c := range r.Service.Checks {
		if err := c.run(ctx, r.Live.DB, r.owners()); err != nil {
			return err
		}
	}
	return nil
}

// inTime bounds how long the service may take to be well.
func (r *Request) inTime(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, orDefault(r.Service.HealthTimeout, defaultHealthTimeout), errNotInTime)
}

var errNotInTime = errors.New("not within restore.health_timeout")

func (r *Request) waitHealthy(ctx context.Context) error {
	if r.HealthURL == "" {
		return nil
	}
	r.Progress.Tell("wait for the service", 0, 0)
	last := errors.New("no answer")
	for {
		status, err := get(ctx, r.HealthURL)
		switch {
		case err == nil && status/100 == 2:
			return nil
		case err == nil:
			last = fmt.Errorf("status %d", status)
		case ctx.Err() == nil:
			last = err
		}
		if err := pause(ctx, lookAgain); err != nil {
			return fmt.Errorf("%s: %w: the last look gave: %w", failure.PublicURL(r.HealthURL), context.Cause(ctx),
				last)
		}
	}
}

// command runs one of the service's commands and waits for it. Its output goes
// to a file: a pipe would be held open by a service that it leaves behind.
func (s *Service) command(ctx context.Context, name string, argv []string) (err error) {
	if len(argv) == 0 {
		return fmt.Errorf("%s is not configured", name)
	}
	ctx, cancel := context.WithTimeout(ctx, orDefault(s.CommandTimeout, defaultCommandTimeout))
	defer cancel()
	output, err := os.CreateTemp("", "atobackupd-command-*")
	if err != nil {
		return err
	}
	defer output.Close()
	if err := os.Remove(output.Name()); err != nil {
		return err
	}
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.Stdout, c.Stderr = output, output
	// A group of its own: Ctrl-C on our terminal must not kill it half-way.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// And what it has started itself ends with it: docker leaves the work to a plugin.
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	err = c.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("%w (%w)", ctx.Err(), err)
	}
	return fmt.Errorf("%s (%s): %w%s", name, strings.Join(argv, " "), err, lastWords(output))
}

// lastWords returns the end of what a command wrote.
func lastWords(output *os.File) string {
	const most = 600
	size, err := output.Seek(0, io.SeekEnd)
	if err != nil || size == 0 {
		return ""
	}
	buf := make([]byte, min(size, most))
	if _, err := output.ReadAt(buf, max(0, size-most)); err != nil {
		return ""
	}
	return ": it wrote: " + strings.TrimSpace(string(buf))
}

// pause waits, and returns the context's error when it ends first.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
