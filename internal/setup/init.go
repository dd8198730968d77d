// Package setup prepares an installation: init, the recovery sheet, and the check
// of the configuration.
package setup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
)

// usualDB is where AtoCore's database is found without being told.
const usualDB = "/srv/storage/atocore/data/db/atocore.db"

// serviceUser is the user of the unit that is shipped.
const serviceUser = "atobackupd"

// InitRequest is what an operator may tell `init`. What is empty is found out.
type InitRequest struct {
	ConfigPath                         string
	StateDir                           string
	DB, Registry, Chroma, BackupDir    string
	Recipients                         []string
	TargetName, TargetUser, TargetPath string
	TargetHosts                        []string
	Ordinary                           bool   // the account there may also change and delete, and this machine prunes
	HealthURL, APIURL                  string // where AtoCore answers
	ComposeFile                        string // what stops and starts it
	DrawerKey                          bool   // makes a second key, which is shown once and kept nowhere
	Out                                string // the directory of the identity and the recovery sheet
	Force                              bool   // replaces the configuration and the sheet, never a key
	Host                               string
}

// InitReport is the document of `init`.
type InitReport struct {
	Config        InitFile  `json:"config"`
	SSHKey        InitKey   `json:"ssh_key"`
	SigningKey    InitKey   `json:"signing_key"`
	Identity      *InitFile `json:"identity"` // null: recipients were given, or are in the configuration
	Recipients    []string  `json:"recipients"`
	RecoverySheet InitFile  `json:"recovery_sheet"`
	Sheet         string    `json:"-"`
	SecondMachine *InitFile `json:"second_machine_script"` // null: no sftp target
	Script        string    `json:"-"`                     // what is in it
	DrawerKey     string    `json:"-"`                     // the secret key that is shown once
	Warnings      []string  `json:"warnings"`
	Next          []string  `json:"next"`
}

// InitFile is a file that `init` made or found.
type InitFile struct {
	Path string `json:"path"`
	Made bool   `json:"made"` // false: it was there and stays as it was
}

// InitKey is a secret key and its public half.
type InitKey struct {
	InitFile
	Public string `json:"public"`
}

// Init makes what an installation needs: the configuration, the keys, the
// directories, the recovery sheet. It never replaces a key, and nothing else
// unless Force says so: run again, it does what is still missing.
func Init(ctx context.Context, r InitRequest) (report InitReport, err error) {
	report = InitReport{Recipients: []string{}, Warnings: []string{}, Next: []string{}}
	if err := r.complete(); err != nil {
		return report, err
	}
	cfg, err := r.existing()
	if err != nil {
		return report, err
	}
	if cfg == nil {
		if err := r.find(); err != nil {
			return report, err
		}
		r.findService(ctx)
		if err := r.identity(&report); err != nil {
			return report, err
		}
		if cfg, err = r.writeConfig(); err != nil {
			return report, err
		}
		report.Config.Made = true
	}
	report.Config.Path = r.ConfigPath
	if _, err := os.Stat(r.identityPath()); err == nil && report.Identity == nil {
		report.Identity = &InitFile{Path: r.identityPath()} // it should not be here any more
	}
	if err := r.directories(cfg); err != nil {
		return report, err
	}
	if err := r.keys(cfg, &report); err != nil {
		return report, err
	}
	recipients, err := crypt.LoadRecipients(cfg.Encryption.Recipients, cfg.Encryption.RecipientsFile)
	if err == nil {
		report.Recipients = recipients.Strings()
		report.Warnings = append(report.Warnings, recipients.Warnings()...)
	} else if len(cfg.Encryption.Recipients) > 0 || cfg.Encryption.RecipientsFile != "" {
		return report, err
	}
	if err := r.sheet(cfg, &report); err != nil {
		return report, err
	}
	if err := r.secondMachine(cfg, &report); err != nil {
		return report, err
	}
	report.Next = r.next(cfg, report)
	return report, nil
}

// homeDir returns the home of whoever runs this, also where the environment does
// not name it, as under some remote shells.
func homeDir() (string, error) {
	if dir, err := os.UserHomeDir(); err == nil {
		return dir, nil
	}
	u, err := user.Current()
	if err != nil {
		return "", err
	}
	return u.HomeDir, nil
}

// complete fills in what has a default, and refuses what cannot be.
func (r *InitRequest) complete() (err error) {
	if r.ConfigPath, err = filepath.Abs(r.ConfigPath); err != nil {
		return err
	}
	if r.Out == "" {
		if r.Out, err = homeDir(); err != nil {
			return &failure.Error{Op: "init", Kind: failure.Usage, Err: err,
				Hint: "say with --out where the recovery sheet goes"}
		}
	}
	for _, path := range []*string{&r.Out, &r.StateDir, &r.DB, &r.Registry, &r.Chroma, &r.BackupDir} {
		if *path != "" {
			if *path, err = filepath.Abs(*path); err != nil {
				return err
			}
		}
	}
	r.StateDir = cmp.Or(r.StateDir, config.Default().StateDir)
	if r.Host == "" {
		if r.Host, err = os.Hostname(); err != nil {
			return err
		}
	}
	if len(r.TargetHosts) > 0 {
		r.TargetName, r.TargetUser = cmp.Or(r.TargetName, "laptop"), cmp.Or(r.TargetUser, "atobackup")
		r.TargetPath = cmp.Or(r.TargetPath, "/home/"+r.TargetUser+"/vault")
	} else if r.TargetName+r.TargetUser+r.TargetPath != "" {
		return &failure.Error{Op: "init", Kind: failure.Usage, Err: errors.New("a target needs a host"),
			Hint: "name it with --host"}
	}
	for _, host := range r.TargetHosts {
		if _, port, err := net.SplitHostPort(host); err == nil {
			return &failure.Error{Op: "init", Subject: "--host " + host, Kind: failure.Usage,
				Err:  errors.New("the port is a key of its own"),
				Hint: "name the machine alone, and write port = " + port + " into [[offsite]] afterwards"}
		}
	}
	if r.TargetUser == "root" {
		return &failure.Error{Op: "init", Subject: "--user root", Kind: failure.Usage,
			Err:  errors.New("the account there is for the copies alone, and nobody logs in with it"),
			Hint: "leave it out, or name one that is to be made"}
	}
	if len(r.Recipients) > 0 {
		if _, err := crypt.ParseRecipients(r.Recipients); err != nil {
			return &failure.Error{Op: "init", Subject: "--recipient", Kind: failure.Usage, Err: err}
		}
	}
	return nil
}

// existing reads the configuration that is there already; nil without one, or
// when it is to be replaced.
func (r *InitRequest) existing() (*config.Config, error) {
	if _, err := os.Stat(r.ConfigPath); errors.Is(err, fs.ErrNotExist) || r.Force {
		return nil, nil
	}
	return config.Load(r.ConfigPath)
}

// find looks for AtoCore's data, from the database on: the rest lies beside it.
func (r *InitRequest) find() error {
	if r.DB == "" {
		r.DB = usualDB
	}
	if _, err := os.Stat(r.DB); err != nil {
		return &failure.Error{Op: "init", Subject: r.DB, Kind: failure.Usage,
			Err: fmt.Errorf("no AtoCore database there: %w", err), Hint: "say where it is with --db"}
	}
	root := filepath.Dir(filepath.Dir(filepath.Dir(r.DB))) // of ROOT/data/db/atocore.db
	beside := func(path *string, parts ...string) {
		if candidate := filepath.Join(append([]string{root}, parts...)...); *path == "" {
			if _, err := os.Stat(candidate); err == nil {
				*path = candidate
			}
		}
	}
	beside(&r.Registry, "config", "project-registry.json")
	beside(&r.Chroma, "data", "chroma")
	if r.BackupDir == "" {
		if filepath.Base(filepath.Dir(filepath.Dir(r.DB))) != "data" {
			return &failure.Error{Op: "init", Kind: failure.Usage, Err: errors.New("there is no usual place for the " +
				"backups beside " + r.DB), Hint: "name one with --backup-dir"}
		}
		r.BackupDir = filepath.Join(root, "backups")
	}
	return nil
}

// identity makes a secret key where no public one was given. It is written where
// the daemon has no business, to be moved to another machine.
func (r *InitRequest) identity(report *InitReport) error {
	if len(r.Recipients) > 0 {
		return nil
	}
	path := r.identityPath()
	for _, kept := range []string{r.StateDir, r.BackupDir, filepath.Dir(r.ConfigPath)} {
		if rel, err := filepath.Rel(kept, path); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
			return &failure.Error{Op: "init", Subject: path, Kind: failure.Usage,
				Err:  errors.New("the secret key must not lie in " + kept),
				Hint: "name another directory with --out, best one on a stick"}
		}
	}
	if err := fsx.MkdirAll(r.Out, 0o700); err != nil {
		return err
	}
	recipient, err := crypt.WriteIdentity(path)
	report.Identity = &InitFile{Path: path, Made: true}
	if errors.Is(err, fs.ErrExist) {
		// An earlier run made it, and its configuration is gone or replaced.
		report.Identity.Made = false
		recipient, err = publicOf(path)
	}
	r.Recipients = []string{recipient}
	if err != nil || !r.DrawerKey {
		return err
	}
	secret, second, err := crypt.GenerateIdentity()
	report.DrawerKey = secret
	r.Recipients = append(r.Recipients, second)
	return err
}

func (r *InitRequest) identityPath() string {
	return filepath.Join(r.Out, "atobackupd-identity-"+r.Host+".txt")
}

// publicOf reads the public key that an identity file names for itself.
func publicOf(path string) (string, error) {
	if _, err := crypt.LoadIdentities(path); err != nil {
		return "", err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(data)) {
		if key, ok := strings.CutPrefix(strings.TrimSpace(line), "# public key: "); ok {
			return key, nil
		}
	}
	return "", &failure.Error{Op: "init", Subject: path, Kind: failure.Usage,
		Err: errors.New("it does not name its public key"), Hint: "give it with --recipient $(age-keygen -y " + path +
			")"}
}

// writeConfig writes the configuration and reads it back as the daemon will.
func (r *InitRequest) writeConfig() (*config.Config, error) {
	text, err := r.configText()
	if err != nil {
		return nil, err
	}
	cfg, err := config.Parse(r.ConfigPath, []byte(text))
	if err != nil {
		return nil, err
	}
	if err := fsx.MkdirAll(filepath.Dir(r.ConfigPath), 0o750); err != nil {
		return nil, err
	}
	return cfg, errors.Join(fsx.WriteFile(r.ConfigPath, []byte(text), 0o640), r.give(r.ConfigPath, false))
}

// directories makes those that the configuration names.
func (r *InitRequest) directories(cfg *config.Config) error {
	for dir, mode := range map[string]os.FileMode{cfg.StateDir: 0o700, cfg.Backup.Dir: 0o750} {
		if _, err := os.Stat(dir); err == nil {
			continue
		}
		if err := errors.Join(fsx.MkdirAll(dir, mode), r.give(dir, true)); err != nil {
			return err
		}
	}
	return nil
}

// keys makes the signing key and the ssh key where they are missing.
func (r *InitRequest) keys(cfg *config.Config, report *InitReport) error {
	if err := (&app.App{Config: cfg}).SignerLost(); err != nil {
		return err
	}
	path := filepath.Join(cfg.StateDir, "signing_key")
	signer, made, err := crypt.LoadOrCreateSigner(path)
	if err != nil {
		return err
	}
	report.SigningKey = InitKey{InitFile{path, made}, signer.AuthorizedKey()}
	if err := r.give(path, true); err != nil {
		return err
	}
	path = r.sshKeyPath()
	for _, t := range cfg.Offsite {
		path = cmp.Or(t.IdentityFile, path)
	}
	public, err := crypt.GenerateSSHKey(path, "atobackupd@"+r.Host)
	report.SSHKey = InitKey{InitFile{path, err == nil}, public}
	if errors.Is(err, fs.ErrExist) {
		data, readErr := os.ReadFile(path + ".pub")
		// As GenerateSSHKey returns it, without the comment.
		report.SSHKey.Public, err = strings.Join(firstTwo(strings.Fields(string(data))), " "), readErr
	}
	return err
}

func firstTwo(words []string) []string { return words[:min(2, len(words))] }

func (r *InitRequest) sshKeyPath() string {
	return filepath.Join(filepath.Dir(r.ConfigPath), "id_ed25519")
}

// give lets the service have what root has made: as its own, or to read. Where
// there is no such user, it stays root's.
func (r *InitRequest) give(path string, own bool) error {
	u, err := user.Lookup(serviceUser)
	if err != nil || os.Geteuid() != 0 {
		return nil
	}
	uid, uidErr := strconv.Atoi(u.Uid)
	gid, gidErr := strconv.Atoi(u.Gid)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return err
	}
	if !own {
		uid = 0
	}
	return os.Lchown(path, uid, gid)
}
