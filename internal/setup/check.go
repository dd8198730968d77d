package setup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/restore"
	"github.com/atocore/atobackupd/snapshot"
	"github.com/atocore/atobackupd/snapshot/chroma"
	"github.com/atocore/atobackupd/snapshot/sqlite"
)

// ConfigReport is the document of `config check`.
type ConfigReport struct {
	Path     string       `json:"path"`
	User     string       `json:"user"` // who found the paths to be readable and writable
	Schedule app.Schedule `json:"schedule"`
	Errors   []string     `json:"errors"`   // what keeps the daemon from working
	Warnings []string     `json:"warnings"` // what an operator will regret
}

// checker goes through a configuration and gathers what it finds.
type checker struct {
	cfg    *config.Config
	report ConfigReport
	errs   []error
}

// CheckConfig checks what can be checked without doing it. The error holds all
// of the report's.
func CheckConfig(ctx context.Context, cfg *config.Config, now time.Time) (ConfigReport, error) {
	c := newChecker(cfg)
	c.warnings(cfg.Warnings(app.LongestGap))
	if err := cfg.ValidateRun(app.CheckCron); err != nil {
		return c.result(err)
	}
	list, err := app.Crons(cfg)
	if err != nil {
		return c.result(err)
	}
	for _, s := range list {
		c.report.Schedule.Jobs = append(c.report.Schedule.Jobs,
			app.ScheduleEntry{Job: s.Name, Expr: s.Cron.String(), Next: s.Cron.Upcoming(time.Time{}, now, 3)})
	}
	c.paths(ctx)
	c.queries(ctx)
	c.encryption()
	if err := (&app.App{Config: cfg}).SignerLost(); err != nil && !errors.Is(err, fs.ErrPermission) {
		c.errs = append(c.errs, err)
	}
	for _, t := range cfg.Offsite {
		c.target(t)
	}
	c.sameVaults()
	c.notify()
	c.http()
	c.commands()
	c.deployment()
	c.sharedPlaces()
	c.fail("backup.dir", restore.Place{StateDir: cfg.StateDir, BackupDir: cfg.Backup.Dir}.RefusePending())
	c.service(ctx)
	return c.result(nil)
}

// CheckAccess checks only what depends on who looks: whether this process can
// read the data and write the backups. `config check` has the service's user
// run it.
func CheckAccess(ctx context.Context, cfg *config.Config) (ConfigReport, error) {
	c := newChecker(cfg)
	c.paths(ctx)
	return c.result(nil)
}

func newChecker(cfg *config.Config) *checker {
	return &checker{cfg: cfg, report: ConfigReport{
		Path: cfg.Path, User: app.UserName(os.Geteuid()), Errors: []string{}, Warnings: []string{},
		Schedule: app.Schedule{Timezone: cfg.Schedule.Timezone, Jobs: []app.ScheduleEntry{}},
	}}
}

// result closes the report. err is what kept the check from going on.
func (c *checker) result(err error) (ConfigReport, error) {
	if err != nil {
		c.errs = append(c.errs, err)
	}
	for _, err := range c.errs {
		c.report.Errors = append(c.report.Errors, err.Error())
	}
	if err == nil && len(c.errs) > 0 {
		err = &failure.Error{Op: "config check", Subject: c.cfg.Path, Kind: failure.Config, Err: errors.Join(c.errs...)}
	}
	return c.report, err
}

func (c *checker) fail(key string, err error) {
	if err != nil {
		c.errs = append(c.errs, fmt.Errorf("%s: %w", key, err))
	}
}

func (c *checker) warn(key, format string, args ...any) {
	c.warnings([]string{key + ": " + fmt.Sprintf(format, args...)})
}

func (c *checker) warnings(list []string) {
	for _, w := range list {
		if !slices.Contains(c.report.Warnings, w) {
			c.report.Warnings = append(c.report.Warnings, w)
		}
	}
}

// sameVaults refuses two targets that are one place: a link or a mount shows it of
// directories, and of the others the vault that both were found to hold.
func (c *checker) sameVaults() {
	vault, dirs := make(map[string]string), make(map[string]os.FileInfo)
	for _, t := range c.cfg.Offsite {
		info, err := os.Stat(t.Path)
		if err == nil && t.Type == "dir" {
			for other, dir := range dirs {
				if os.SameFile(info, dir) {
					c.samePlace(other, t.Name, "are one directory")
				}
			}
			dirs[t.Name] = info
		}
		state, err := offsite.LoadState(c.cfg.StateDir, t.Name)
		if err != nil || state.VaultID == "" {
			continue // told where the target is used
		}
		if other, ok := vault[state.VaultID]; ok {
			c.samePlace(other, t.Name, "are pinned to one vault, "+state.VaultID)
		}
		vault[state.VaultID] = t.Name
	}
}

func (c *checker) samePlace(one, two, why string) {
	c.fail("offsite", fmt.Errorf("%s and %s %s: two names of one copy are one copy: remove one of them, or give it a "+
		"place of its own", one, two, why))
}

// sharedPlaces checks that nobody else can change the backups, or what is decided
// from.
func (c *checker) sharedPlaces() {
	shared, err := app.SharedPlaces(c.cfg)
	if err == nil {
		err = tree.Refusal(c.cfg.Backup.Dir, shared)
	}
	c.fail("backup.dir", err)
	c.fail("backup.atocore_group", app.CheckGroup(c.cfg.Backup.AtoCoreGroup))
}

// preflightDB reports whether the database can be copied, and is the one that was
// meant.
func preflightDB(ctx context.Context, path string, tables []string, owners tree.Owners) error {
	live, err := sqlite.OpenLive(path, owners)
	if err != nil {
		return err
	}
	defer live.Close()
	if err := sqlite.Preflight(live); err != nil {
		return err
	}
	return snapshot.RequireTables(ctx, live, tables)
}

// queries checks that what a drill asks can be asked of the database that is there.
func (c *checker) queries(ctx context.Context) {
	if len(c.errs) > 0 {
		return // of the database, perhaps, which is said already
	}
	for _, query := range c.cfg.Drill.Queries {
		c.fail("drill.queries", sqlite.CheckQuery(ctx, c.cfg.AtoCore.DBPath, tree.Trusted(c.cfg.StateDir), query))
	}
}

// paths checks the data, the backups and the state.
func (c *checker) paths(ctx context.Context) {
	a, b := c.cfg.AtoCore, c.cfg.Backup
	err := preflightDB(ctx, a.DBPath, a.RequiredTables, tree.Trusted(c.cfg.StateDir))
	if !errors.Is(err, fs.ErrNotExist) {
		err = errors.Join(err, readable(a.DBPath))
	}
	c.fail("atocore.db_path", err)
	if a.RegistryPath != "" {
		if err := readable(a.RegistryPath); errors.Is(err, os.ErrNotExist) {
			c.warn("atocore.registry_path", "%v: snapshots will hold no registry", err)
		} else {
			c.fail("atocore.registry_path", err)
		}
	}
	if a.ChromaPath != "" {
		c.chroma(a.ChromaPath)
	}
	c.fail("backup.dir", writableDir(b.Dir))
	// One of these may be another user's: AtoCore made snapshots/ before us.
	for _, name := range []string{"snapshots", "staging", "quarantine"} {
		dir := filepath.Join(b.Dir, name)
		if _, err := os.Stat(dir); err == nil {
			c.fail("backup.dir", writableDir(dir))
		}
	}
	store, err := snapshot.OpenExisting(b.Dir)
	if err == nil {
		err = store.Check()
	}
	if err != nil {
		c.errs = append(c.errs, err) // it names backup.dir itself
	}
	c.fail("state_dir", writableDir(c.cfg.StateDir))
	c.space()
	if b.ChromaMethod == chroma.MethodAPI {
		c.fail("backup.chroma_method", app.ProveAPI(b.Dir))
	}
	for _, t := range c.cfg.Offsite {
		if t.Type == "dir" {
			c.fail("offsite."+t.Name+".path", writableDir(t.Path))
		}
	}
}

func (c *checker) encryption() {
	if len(c.cfg.Offsite) == 0 && len(c.cfg.Encryption.Recipients) == 0 && c.cfg.Encryption.RecipientsFile == "" {
		return
	}
	recipients, err := crypt.LoadRecipients(c.cfg.Encryption.Recipients, c.cfg.Encryption.RecipientsFile)
	if err != nil {
		c.fail("encryption", err)
		return
	}
	if recipients.Len() > 1 || len(c.cfg.Encryption.Recipients) != 1 { // else it was said
		c.warnings(recipients.Warnings())
	}
}

func (c *checker) notify() {
	outbox, err := app.OutboxFor(c.cfg)
	c.fail("notify", err)
	if file := c.cfg.Notify.URLsFile; file != "" {
		if outbox != nil && outbox.Len() == 0 {
			c.warn("notify.urls_file", "%s holds no address: nobody is told", file)
		}
		c.private("notify.urls_file", file)
	}
}

func (c *checker) http() {
	file := c.cfg.HTTP.TokenFile
	if file == "" {
		return
	}
	data, err := os.ReadFile(file)
	switch {
	case err != nil:
		c.fail("http.token_file", fmt.Errorf("%w: make it with `openssl rand -hex 32 >%s`", err, file))
	case len(data) < 16:
		c.fail("http.token_file", fmt.Errorf("%s holds %d bytes, which can be guessed: make it with `openssl rand "+
			"-hex 32 >%s`", file, len(data), file))
	}
	c.private("http.token_file", file)
}

// commands checks that the programs of commands exist.
func (c *checker) commands() {
	b, r := c.cfg.Backup, c.cfg.Restore
	for _, command := range []struct {
		key   string
		words []string
	}{
		{"backup.freeze_command", b.FreezeCommand}, {"backup.thaw_command", b.ThawCommand},
		{"restore.stop_command", r.StopCommand}, {"restore.start_command", r.StartCommand},
		{"notify.command", c.cfg.Notify.Command},
	} {
		if len(command.words) > 0 {
			if _, err := exec.LookPath(command.words[0]); err != nil {
				c.warn(command.key, "%v", err)
			}
		}
	}
}
