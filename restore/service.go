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
	"github.com/atocore/atobackupd/snapshot"
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

// managed stops the service, restores, starts it and asks it; when it is not
// well it puts the pre-restore snapshot back and starts the service on that.
// Once the service has been stopped, a cancelled ctx still leads to its start.
func (r *Request) managed(ctx context.Context, plan *Plan, res *Result) error {
	always := context.WithoutCancel(ctx)
	if err := r.stop(ctx); err != nil {
		return errors.Join(r.notRestored("the service was not stopped", err), r.startAgain(always))
	}
	if err := r.waitFree(ctx); err != nil {
		return errors.Join(err, r.startAgain(always))
	}
	if err := r.replace(ctx, plan, res); err != nil {
		if j, unread := r.pending(); unread != nil || j != nil && j.Phase == PhaseSwapping {
			// Between old and new: no service must see it.
			return err
		}
		return errors.Join(err, r.startAgain(always))
	}
	err := r.runs(ctx)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return &failure.Error{Op: "restore", Subject: string(r.Stamp), Kind: failure.Interrupted,
			Err:  errors.New("interrupted while the restored service was being checked; it was left restored"),
			Hint: r.wayBack(res)}
	}
	return r.rollBack(always, res, err)
}

func (r *Request) wayBack(res *Result) string {
	if res.PreRestoreSnapshot == "" {
		return "check the service"
	}
	return fmt.Sprintf("check the service; to go back: atobackupd restore %s --manage-service --no-pre-snapshot", res.PreRestoreSnapshot)
}

func (r *Request) notRestored(what string, err error) error {
	return &failure.Error{Op: "restore", Subject: string(r.Stamp), Err: fmt.Errorf("%s: %w", what, err), Hint: "the live store was not touched"}
}

func (r *Request) stop(ctx context.Context) error {
	r.progress("stop the service", 0)
	return r.Service.command(ctx, "restore.stop_command", r.Service.Stop)
}

func (r *Request) startAgain(ctx context.Context) error {
	r.progress("start the service", 0)
	return r.Service.command(ctx, "restore.start_command", r.Service.Start)
}

// waitFree waits until no other process has a file of the store open.
func (r *Request) waitFree(ctx context.Context) error {
	if r.Force {
		return nil
	}
	r.progress("wait for the files to be free", 0)
	deadline := time.Now().Add(orDefault(r.Service.FreeTimeout, defaultFreeTimeout))
	for {
		w := watched{}
		w.addLive(r.Live, !r.NoChroma)
		found, _, err := w.holders()
		if err != nil {
			return r.notRestored("the service was stopped", err)
		}
		var why error
		switch {
		case len(found) > 0:
			why = openIn(found[0])
		case listening(ctx, r.HealthURL):
			why = fmt.Errorf("the service answers at %s", r.HealthURL)
		default:
			return nil
		}
		if !time.Now().Before(deadline) {
			return r.refuse(why, "restore.stop_command did not stop everything that uses the store")
		}
		if err := pause(ctx, lookAgain); err != nil {
			return err
		}
	}
}

// runs starts the service and finds out whether it is well.
func (r *Request) runs(ctx context.Context) error {
	if err := r.startAgain(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, orDefault(r.Service.HealthTimeout, defaultHealthTimeout), errNotInTime)
	defer cancel()
	if err := r.waitHealthy(ctx); err != nil {
		return err
	}
	for _, c := range r.Service.Checks {
		if err := c.run(ctx, r.Live.DB); err != nil {
			return err
		}
	}
	return nil
}

var errNotInTime = errors.New("not within restore.health_timeout")

func (r *Request) waitHealthy(ctx context.Context) error {
	if r.HealthURL == "" {
		return nil
	}
	r.progress("wait for the service", 0)
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
			return fmt.Errorf("%s: %w: the last look gave: %w", r.HealthURL, context.Cause(ctx), last)
		}
	}
}

// rollBack puts the pre-restore snapshot back after the restored service turned
// out not to be well.
func (r *Request) rollBack(ctx context.Context, res *Result, cause error) error {
	fail := func(err error, hint string) error {
		return &failure.Error{Op: "restore", Subject: string(r.Stamp), Err: err, Hint: hint}
	}
	if res.PreRestoreSnapshot == "" {
		return fail(fmt.Errorf("the restored service is not well: %w", cause), "no pre-restore snapshot was taken, so it was left as it is: restore another snapshot")
	}
	r.progress("roll back", 0)
	back := r.rollBackRequest(res)
	again := newResult(res.PreRestoreSnapshot, "local")
	err := r.stop(ctx)
	if err == nil {
		err = r.waitFree(ctx)
	}
	if err == nil {
		again, err = Run(ctx, back)
	}
	res.Warnings = append(res.Warnings, again.Warnings...)
	if err != nil {
		return fail(fmt.Errorf("the restored service is not well (%w), and the roll-back failed: %w", cause, err), r.afterFailedRollBack(res))
	}
	res.nothingRestored()
	res.RolledBack, res.RestoredIntegrityOK = true, again.RestoredIntegrityOK
	if err := r.runs(ctx); err != nil {
		res.Warnings = append(res.Warnings, "on the old store, too, the service is not well: "+err.Error())
	}
	return fail(fmt.Errorf("rolled back to %s, because the restored service was not well: %w", res.PreRestoreSnapshot, cause),
		"see the service's own log, or try an older snapshot")
}

// afterFailedRollBack says what to do then, and what is live: while the
// roll-back's journal stands, another restore would be refused.
func (r *Request) afterFailedRollBack(res *Result) (hint string) {
	j, err := r.pending()
	if err == nil && j == nil {
		return "stop the service; atobackupd restore " + res.PreRestoreSnapshot + " --confirm-service-stopped --no-pre-snapshot --allow-invalid"
	}
	if err != nil || j.Phase == PhaseSwapping || j.Phase == PhaseCommitted {
		res.nothingRestored()
	}
	return "remove the cause, keep the service stopped, and finish the roll-back with `atobackupd restore --resume`"
}

// rollBackRequest restores exactly what the pre-restore snapshot says: also that
// something was not there.
func (r *Request) rollBackRequest(res *Result) Request {
	return Request{
		Store: r.Store, Stamp: snapshot.Stamp(res.PreRestoreSnapshot), Source: "local", Live: r.Live, Host: r.Host,
		ConfirmServiceStopped: true, NoPreSnapshot: true, AllowInvalid: true, AcceptOtherDeployment: true, Force: r.Force, NoChroma: !res.ChromaRestored,
		HealthURL: r.HealthURL, Share: r.Share, Progress: r.Progress, exact: true,
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
	err = c.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("%w (%w)", ctx.Err(), err)
	}
	return fmt.Errorf("%s (%s): %w%s", name, strings.Join(argv, " "), err, lastWords(output))
}

// lastWords gives the end of what a command wrote.
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

// pause waits, and gives the context's error when it ends first.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
