package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/snapshot/chroma"
)

// prepared is a configuration that was read, checked, and can be put to use
// without anything left that may fail.
type prepared struct {
	app      *app.App
	outbox   notifier
	warnings []string
}

// reload reads the configuration again and puts it to use. One that is refused
// changes nothing: the old one stays, and people are told.
func (d *daemon) reload(ctx context.Context) {
	old := d.app()
	// systemd waits for READY after RELOADING, whatever comes of it.
	tell(old, sd.SdNotifyReloading+"\n"+sd.SdNotifyMonotonicUsec()+"STATUS=reading "+old.Config.Path+" again")
	err := d.replace(ctx, old)
	if err != nil {
		old.Options.Log.Error("the new configuration is refused, and the old one stays", "error", err)
		d.life.change(func(now *app.Life) {
			now.Config = &health.Trouble{Message: "the new configuration is refused, and the old one stays: " +
				err.Error(),
				Hint: cmp.Or(failure.HintOf(err), "atobackupd config check"), Since: time.Now().UTC()}
		})
	} else {
		d.life.change(func(now *app.Life) { now.Config = nil })
		old.Options.Log.Info("the new configuration is in force", "config", old.Config.Path, "next",
			nextLine(ctx, d.app()))
	}
	d.alarmLoop.wakeUp()
	tell(old, sd.SdNotifyReady+"\nSTATUS="+statusLine(d.scheduler.Status()))
}

func (d *daemon) replace(ctx context.Context, old *app.App) error {
	p, err := d.prepare(ctx, old)
	if err != nil {
		return err
	}
	list, err := jobs(p.app, d.trigger, d.say)
	if err != nil {
		return err
	}
	if err := d.scheduler.Replace(list); err != nil {
		return err
	}
	d.current.Store(p.app)
	p.app.NoteHistoryError(app.KeepAddresses(p.app.Config))
	d.tellThrough(p.app, p.outbox)
	for _, warning := range p.warnings {
		old.Options.Log.Warn(warning)
	}
	for _, t := range p.app.Config.Offsite {
		d.trigger(app.SyncJob(t.Name)) // a new target gets its copies now
	}
	return nil
}

// prepare reads and checks the configuration of a running daemon anew. The new
// App shares the old one's store, history and process; a job that runs goes on
// with the old one.
func (d *daemon) prepare(ctx context.Context, old *app.App) (*prepared, error) {
	cfg, err := config.Load(old.Config.Path)
	if err != nil {
		return nil, err
	}
	if err := cfg.ValidateRun(app.CheckCron); err != nil {
		return nil, err
	}
	if err := unchangeable(old.Config, cfg); err != nil {
		return nil, err
	}
	next, err := old.WithConfig(app.WithCredentials(cfg, os.Getenv("CREDENTIALS_DIRECTORY")))
	if err != nil {
		return nil, err
	}
	p := &prepared{app: next, warnings: cfg.Warnings(app.LongestGap)}
	if p.outbox, err = d.tellers(next.Config); err != nil {
		return nil, err
	}
	if cfg.Backup.ChromaMethod == chroma.MethodAPI {
		if err := app.ProveAPI(cfg.Backup.Dir); err != nil {
			return nil, err
		}
	}
	if len(cfg.Offsite) > 0 {
		recipients, err := crypt.LoadRecipients(next.Config.Encryption.Recipients,
			next.Config.Encryption.RecipientsFile)
		if err != nil {
			return nil, err
		}
		p.warnings = append(p.warnings, recipients.Warnings()...)
		if _, err := next.Signer(); err != nil {
			return nil, err
		}
	}
	for _, key := range []struct {
		name    string
		changed bool
	}{
		{"schedule.shutdown_timeout", cfg.Schedule.ShutdownTimeout != old.Config.Schedule.ShutdownTimeout},
		{"[log]", cfg.Log != old.Config.Log},
	} {
		if key.changed {
			p.warnings = append(p.warnings, key.name+" has changed: it counts from the next start")
		}
	}
	return p, ctx.Err()
}

// unchangeable refuses what a running daemon cannot change: the directories
// that it holds open and locks, and the address that it listens on.
func unchangeable(old, new *config.Config) error {
	var errs []error
	for _, key := range []struct{ name, old, new string }{
		{"state_dir", old.StateDir, new.StateDir},
		{"backup.dir", old.Backup.Dir, new.Backup.Dir},
		{"http.listen", old.HTTP.Listen, new.HTTP.Listen},
	} {
		if key.old != key.new {
			errs = append(errs, fmt.Errorf("%s cannot change from %q to %q by a reload", key.name, key.old, key.new))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return &failure.Error{Op: "reload", Subject: new.Path, Kind: failure.Config, Err: errors.Join(errs...),
		Hint: "systemctl restart atobackupd"}
}
