package setup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/escape"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/offsite"
)

// sheet writes the recovery sheet: what a person needs who has nothing left of
// this machine. It holds no secret. One that is there stays, unless Force; what names
// other keys, as after a new signing key, is moved aside: on paper it would open nothing.
func (r *InitRequest) sheet(cfg *config.Config, report *InitReport) error {
	path := filepath.Join(r.Out, "atobackupd-recovery-"+r.Host+".txt")
	report.RecoverySheet.Path = path
	report.Sheet = r.sheetText(cfg, *report)
	switch there, err := os.ReadFile(path); {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case err == nil && !r.Force && namesKeys(string(there), *report):
		return nil
	case err == nil && !r.Force:
		aside := path + ".before-" + time.Now().UTC().Format("20060102T150405Z")
		if err := os.Rename(path, aside); err != nil {
			return err
		}
		report.Warnings = append(report.Warnings, "the recovery sheet that was there names other keys: it is now "+
			aside+"; what is printed of it opens no copy that is made from now on")
	}
	report.RecoverySheet.Made = true
	return errors.Join(fsx.MkdirAll(r.Out, 0o700), fsx.WriteFile(path, []byte(report.Sheet), 0o644),
		// The host document takes it up from there.
		fsx.MkdirAll(cfg.StateDir, 0o700), fsx.WriteFile(app.SheetPath(cfg.StateDir), []byte(report.Sheet), 0o600))
}

// namesKeys reports whether a sheet names the keys of this machine: who signs its
// copies, and to whom they are sealed.
func namesKeys(sheet string, report InitReport) bool {
	for _, key := range append([]string{report.SigningKey.Public}, report.Recipients...) {
		if !strings.Contains(sheet, key) {
			return false
		}
	}
	return true
}

func (r *InitRequest) sheetText(cfg *config.Config, report InitReport) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("RECOVERY SHEET of %s, %s", r.Host, time.Now().UTC().Format("2006-01-02"))
	line("")
	line("How to get AtoCore's state back when this machine is gone. Nothing on this")
	line("sheet is secret. Print it, and keep a copy where the secret key is.")
	line("")
	line("1. The secret key (the identity). Without it no copy elsewhere can be read.")
	if report.Identity != nil {
		line("   made in:     %s", report.Identity.Path)
		line("   keep it at:  ____________________________ and ____________________________")
		line("   It must not stay on %s.", r.Host)
	} else {
		line("   whose public keys are below; kept at: ____________________________")
	}
	line("")
	line("2. The public keys that copies are sealed to (encryption.recipients):")
	for _, recipient := range report.Recipients {
		line("   %s", recipient)
	}
	line("")
	line("3. Who signs the copies. A vault is not its own witness: compare.")
	line("   signer:                %s", report.SigningKey.Public)
	line("   SHA-256 of recover.py: %s", offsite.RecoverScriptSHA256())
	line("")
	line("4. Where the copies are:")
	for _, t := range cfg.Offsite {
		switch t.Type {
		case "dir":
			line("   %s: %s", t.Name, t.Path)
		case "s3":
			line("   %s: s3 %s, bucket %s", t.Name, t.Endpoint, path.Join(t.Bucket, t.Prefix))
		default:
			line("   %s: %s of %s, as %s", t.Name, t.Path, strings.Join(t.Hosts, " or "), t.User)
		}
	}
	if len(cfg.Offsite) == 0 {
		line("   nowhere yet: no [[offsite]] target is configured. %s", cfg.Backup.Dir)
		line("   is all there is, and it goes with this machine.")
	}
	line("")
	line("5. Getting it back, with atobackupd, from the vault's directory:")
	line("   atobackupd vault list --dir VAULT")
	line("   atobackupd vault restore latest --dir VAULT --identity KEY --to DIR \\")
	line("     --signer '%s'", report.SigningKey.Public)
	line("   Or with python3, age and zstd alone:")
	line("   sha256sum VAULT/recover.py       (compare with 3)")
	line("   python3 -I VAULT/recover.py STAMP --identity KEY --to DIR \\")
	line("     --signer '%s'", report.SigningKey.Public)
	line("")
	line("6. Putting it in place: on the new machine write %s,", config.DefaultPath)
	line("   stop AtoCore, and restore DIR to the paths it had:")
	line("   database  %s", cfg.AtoCore.DBPath)
	for _, artifact := range []struct{ name, path string }{{"registry", cfg.AtoCore.RegistryPath},
		{"chroma", cfg.AtoCore.ChromaPath}} {
		if artifact.path != "" {
			line("   %-9s %s", artifact.name, artifact.path)
		}
	}
	line("   With the target configured there, this does all of it. The latest may")
	line("   hold no Chroma: see vault list, restore the newest that does first, and")
	line("   then the latest.")
	line("   atobackupd restore latest --from TARGET --identity KEY \\")
	line("     --confirm-service-stopped --accept-other-deployment")
	return b.String()
}

// secondMachine writes the script for the machine that keeps the copies.
func (r *InitRequest) secondMachine(cfg *config.Config, report *InitReport) (err error) {
	for _, t := range cfg.Offsite {
		if t.Type != "sftp" {
			continue
		}
		m := SecondMachine{
			Host: r.Host, Target: t.Name, User: t.User, Path: t.Path, AppendOnly: t.AppendOnly,
			SSHKey: report.SSHKey.Public + " atobackupd@" + r.Host, Signer: report.SigningKey.Public,
		}
		if report.Script, err = m.Script(); err != nil {
			return err
		}
		path := filepath.Join(r.Out, "atobackupd-second-machine-"+t.Name+".sh")
		before, _ := os.ReadFile(path) // what cannot be read is written anew
		report.SecondMachine = &InitFile{Path: path, Made: string(before) != report.Script}
		if !report.SecondMachine.Made {
			return nil
		}
		return errors.Join(fsx.MkdirAll(r.Out, 0o700), fsx.WriteFile(path, []byte(report.Script), 0o644))
	}
	return nil
}

// takeOverScript is where the package has it.
const takeOverScript = "/usr/share/atobackupd/take-over"

// takeOver returns the command that makes the backups nobody else's: the package's
// script, which gives them to the service as well, or what must be changed at least.
func takeOver(dir string, shared []tree.Offence) string {
	if _, err := os.Stat(takeOverScript); err == nil {
		return takeOverScript + " " + escape.ShellWord(dir)
	}
	var commands []string
	for _, offence := range shared {
		commands = append(commands, offence.Mend)
	}
	return strings.Join(commands, " && ")
}

// next says what to do now, in order.
func (r *InitRequest) next(cfg *config.Config, report InitReport) []string {
	var next []string
	full := ""
	if cfg.AtoCore.ChromaPath != "" {
		full = " --chroma"
	}
	add := func(format string, args ...any) { next = append(next, fmt.Sprintf(format, args...)) }
	if report.Identity != nil {
		add("move the secret key %s off this machine, to the laptop and to a drawer, and then shred -u it here: who "+
			"has this machine must not be able to read the copies, and without the key nobody can",
			report.Identity.Path)
	}
	add("print %s, or put it where the secret key is", report.RecoverySheet.Path)
	if shared, err := app.SharedPlaces(cfg); err == nil && len(shared) > 0 {
		add("until this is done nothing is backed up, because another user can change the backups: %s",
			takeOver(cfg.Backup.Dir, shared))
	}
	for _, t := range cfg.Offsite {
		if t.Type == "sftp" {
			add("copy %s to %s and run it there as root: it makes the account, the key file and the vault",
				report.SecondMachine.Path, t.Hosts[0])
			add("atobackupd target trust %s", t.Name)
			add("atobackupd target test %s", t.Name)
		}
	}
	if len(cfg.Offsite) == 0 {
		add("add an [[offsite]] target to %s: without one, a lost machine takes every backup with it",
			report.Config.Path)
	}
	if info, err := os.Stat(filepath.Dir(cfg.AtoCore.DBPath)); err == nil {
		if s, ok := info.Sys().(*syscall.Stat_t); ok && s.Gid != 1000 && s.Gid != 0 {
			add("the data belongs to group %d: systemctl edit atobackupd, and write [Service] and "+
				"SupplementaryGroups=%d", s.Gid, s.Gid)
		}
	}
	if cfg.Backup.Dir != "/srv/storage/atocore/backups" {
		add("the backups are not in the unit's usual place: systemctl edit atobackupd, and write [Service] and "+
			"ReadWritePaths=%s", cfg.Backup.Dir)
	}
	if cfg.AtoCore.HealthURL == "" {
		add("set health_url in %s: a restore asks it whether AtoCore runs", report.Config.Path)
	}
	if len(cfg.Restore.StopCommand) == 0 {
		add("set stop_command and start_command in %s: restore --manage-service and drill --live need both",
			report.Config.Path)
	}
	if len(cfg.Notify.URLs) == 0 && cfg.Notify.URLsFile == "" && len(cfg.Notify.Command) == 0 {
		add("say in [notify] of %s who is told when something fails", report.Config.Path)
	}
	add("atobackupd config check")
	add("atobackupd backup%s", full)
	if len(cfg.Offsite) > 0 {
		add("atobackupd sync")
	}
	add("atobackupd drill")
	add("systemctl enable --now atobackupd")
	add("atobackupd status")
	return next
}
