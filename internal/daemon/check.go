package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/snapshot/sqlite"
)

// ConfigReport is the document of `config check`.
type ConfigReport struct {
	Path     string   `json:"path"`
	Schedule Schedule `json:"schedule"`
	Warnings []string `json:"warnings"`
}

// CheckConfig checks what can be checked without doing it. Errors are what
// keeps the daemon from working; warnings are what an operator will regret.
func CheckConfig(ctx context.Context, cfg *config.Config, now time.Time) (ConfigReport, error) {
	report := ConfigReport{Path: cfg.Path, Warnings: append([]string{}, cfg.Warnings()...)}
	if err := cfg.ValidateRun(CheckCron); err != nil {
		return report, err
	}
	list, err := crons(cfg)
	if err != nil {
		return report, err
	}
	report.Schedule = Schedule{Timezone: cfg.Schedule.Timezone, Jobs: []ScheduleEntry{}}
	for _, s := range list {
		report.Schedule.Jobs = append(report.Schedule.Jobs, ScheduleEntry{Job: s.name, Expr: s.cron.String(), Next: s.cron.Upcoming(time.Time{}, now, 3)})
	}
	var errs []error
	add := func(key string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
	}
	add("atocore.db_path", sqlite.Preflight(cfg.AtoCore.DBPath))
	if cfg.AtoCore.ChromaPath != "" {
		add("atocore.chroma_path", isDirectory(cfg.AtoCore.ChromaPath))
	}
	if path := cfg.AtoCore.RegistryPath; path != "" {
		if _, err := os.Stat(path); err != nil {
			report.Warnings = append(report.Warnings, "atocore.registry_path: "+err.Error()+": snapshots will hold no registry")
		}
	}
	if len(cfg.Offsite) > 0 {
		recipients, err := crypt.LoadRecipients(cfg.Encryption.Recipients, cfg.Encryption.RecipientsFile)
		add("encryption", err)
		if err == nil {
			report.Warnings = append(report.Warnings, recipients.Warnings()...)
		}
	}
	for _, t := range cfg.Offsite {
		checkTarget(cfg, t, add, &report)
	}
	if len(errs) > 0 {
		return report, &failure.Error{Op: "config check", Subject: cfg.Path, Kind: failure.Config, Err: errors.Join(errs...)}
	}
	return report, nil
}

func checkTarget(cfg *config.Config, t config.Target, add func(string, error), report *ConfigReport) {
	key := "offsite." + t.Name
	if t.Type == "dir" {
		backup, err := fsx.Device(cfg.Backup.Dir)
		if err != nil {
			return // not made yet
		}
		if there, err := fsx.Device(t.Path); err == nil && there == backup {
			report.Warnings = append(report.Warnings, key+": "+t.Path+" is on the same disk as the snapshots: one broken disk takes both")
		}
		return
	}
	if t.IdentityFile != "" {
		if _, err := os.Stat(t.IdentityFile); err != nil {
			add(key+".identity_file", fmt.Errorf("%w: make it with `ssh-keygen -t ed25519 -N '' -f %s`", err, t.IdentityFile))
		}
	}
	if t.KnownHosts != "" {
		if _, err := os.Stat(t.KnownHosts); err != nil {
			report.Warnings = append(report.Warnings, fmt.Sprintf("%s.known_hosts: %v: record the host key with `atobackupd target trust %s`", key, err, t.Name))
		}
	}
}

func isDirectory(path string) error {
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is not a directory", path)
	}
	return err
}
