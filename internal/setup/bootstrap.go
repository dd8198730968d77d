package setup

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
)

// BootstrapRequest is what an operator says who has a new machine, a vault and the
// key from the drawer.
type BootstrapRequest struct {
	Identities crypt.Identities
	Force      bool // replace files that are there
	DryRun     bool // show what would be written

	// ConfigPath is where the configuration goes; "" for where it was.
	ConfigPath string

	// Confirm asks whether a command of the configuration may stay. What is not
	// confirmed is left out: the document came from the vault.
	Confirm func(question string) bool
}

// BootstrapFile is a file of the host document.
type BootstrapFile struct {
	Path    string `json:"path"`
	Written bool   `json:"written"`
	data    []byte
	mode    fs.FileMode
}

// BootstrapCommand is a command that the configuration names.
type BootstrapCommand struct {
	Key  string   `json:"key"`
	Argv []string `json:"argv"`
	Kept bool     `json:"kept"`
}

// BootstrapReport is the document of `bootstrap`.
type BootstrapReport struct {
	Host     string             `json:"host"`
	Target   string             `json:"target"`
	VaultID  string             `json:"vault_id"`
	Config   string             `json:"config"`
	Files    []BootstrapFile    `json:"files"`
	Commands []BootstrapCommand `json:"commands"`
	Warnings []string           `json:"warnings"`
}

// Bootstrap unseals the newest host document of a vault and puts its files where
// they were: configuration, known hosts, keys. Nothing is written that is there
// already, and no command of the configuration survives that nobody has confirmed.
func Bootstrap(ctx context.Context, v *app.Vault, r BootstrapRequest) (report BootstrapReport, err error) {
	report = BootstrapReport{VaultID: v.Info.ID, Files: []BootstrapFile{}, Commands: []BootstrapCommand{},
		Warnings: slices.Clone(v.Notes)}
	data, err := v.Host(ctx, v.Signers, r.Identities)
	if err != nil {
		return report, err
	}
	parts, err := untar(data)
	if err != nil {
		return report, &failure.Error{Op: "bootstrap", Subject: "host document", Kind: failure.Invalid, Err: err}
	}
	var about app.HostAbout
	if err := json.Unmarshal(parts[app.HostAboutName], &about); err != nil {
		return report, &failure.Error{Op: "bootstrap", Subject: app.HostAboutName, Kind: failure.Invalid, Err: err}
	}
	report.Host, report.Target, report.Config = about.Host, about.Target, cmp.Or(r.ConfigPath, about.ConfigPath)
	text, err := r.confirmed(parts[app.HostConfigName], &report)
	if err != nil {
		return report, err
	}
	add := func(path string, data []byte) {
		if len(data) > 0 {
			report.Files = append(report.Files, BootstrapFile{Path: path, data: data, mode: 0o600})
		}
	}
	add(report.Config, text)
	add(filepath.Join(about.StateDir, "signing_key"), parts[app.HostSigningName])
	add(app.SheetPath(about.StateDir), parts[app.HostSheetName])
	for name, data := range parts {
		if path, ok := strings.CutPrefix(name, app.HostFilesDir); ok {
			add("/"+path, data)
		}
	}
	slices.SortFunc(report.Files, func(a, b BootstrapFile) int { return strings.Compare(a.Path, b.Path) })
	if err := r.check(report.Files); err != nil || r.DryRun {
		return report, err
	}
	for i := range report.Files {
		f := &report.Files[i]
		if err := fsx.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
			return report, err
		}
		if err := fsx.WriteFile(f.Path, f.data, f.mode); err != nil {
			return report, err
		}
		f.Written = true
	}
	return report, nil
}

// check refuses to write over what is there, before anything is written.
func (r BootstrapRequest) check(files []BootstrapFile) error {
	for _, f := range files {
		if !filepath.IsAbs(f.Path) || f.Path != filepath.Clean(f.Path) {
			return &failure.Error{Op: "bootstrap", Subject: f.Path, Kind: failure.Invalid,
				Err: errors.New("it is no absolute path")}
		}
		if _, err := os.Lstat(f.Path); err == nil && !r.Force {
			return &failure.Error{Op: "bootstrap", Subject: f.Path, Kind: failure.Refused,
				Err: errors.New("it is there already"), Hint: "move it away, or say --force"}
		}
	}
	return nil
}

// bootstrapMost bounds the unsealed document.
const bootstrapMost = 64 << 20

// untar reads the files of a host document.
func untar(data []byte) (map[string][]byte, error) {
	parts := make(map[string][]byte)
	total := int64(0)
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return parts, nil
		}
		if err != nil {
			return nil, err
		}
		if total += header.Size; header.Typeflag != tar.TypeReg || total > bootstrapMost {
			return nil, fmt.Errorf("%q is no file of a host document", header.Name)
		}
		if parts[header.Name], err = io.ReadAll(r); err != nil {
			return nil, err
		}
	}
}

// commandKeys are the keys of the configuration that name a command.
var commandKeys = regexp.MustCompile(
	`(?m)^[ \t]*(freeze_command|thaw_command|stop_command|start_command|command)[ \t]*=[ \t]*\[`)

// confirmed returns the configuration without the commands that nobody confirms.
func (r BootstrapRequest) confirmed(text []byte, report *BootstrapReport) ([]byte, error) {
	cfg, err := config.Parse(report.Config, text)
	if err != nil {
		return nil, err
	}
	drop := make(map[string]bool)
	for _, c := range commands(cfg) {
		if len(c.Argv) == 0 {
			continue
		}
		c.Kept = r.Confirm != nil && r.Confirm(fmt.Sprintf("keep the command %s = %q?", c.Key, c.Argv))
		if !c.Kept {
			drop[c.Key[strings.LastIndexByte(c.Key, '.')+1:]] = true
			report.Warnings = append(report.Warnings, c.Key+" was left out of the configuration: nobody confirmed it")
		}
		report.Commands = append(report.Commands, c)
	}
	text = withoutCommands(text, drop)
	if cfg, err = config.Parse(report.Config, text); err != nil {
		return nil, err
	}
	for _, c := range commands(cfg) {
		if name := c.Key[strings.LastIndexByte(c.Key, '.')+1:]; len(c.Argv) > 0 && drop[name] {
			return nil, &failure.Error{Op: "bootstrap", Subject: c.Key, Kind: failure.Refused,
				Err:  errors.New("it could not be taken out of the configuration"),
				Hint: "unseal the document by hand, `age -d -i KEY host/N.age | tar x`, and look at its config.toml"}
		}
	}
	return text, nil
}

// commands are those that a configuration names.
func commands(c *config.Config) []BootstrapCommand {
	return []BootstrapCommand{
		{Key: "backup.freeze_command", Argv: c.Backup.FreezeCommand}, {Key: "backup.thaw_command",
			Argv: c.Backup.ThawCommand},
		{Key: "restore.stop_command", Argv: c.Restore.StopCommand}, {Key: "restore.start_command",
			Argv: c.Restore.StartCommand},
		{Key: "notify.command", Argv: c.Notify.Command},
	}
}

// withoutCommands comments the lines of some keys out, to the bracket that closes
// the list. What it misses is seen by whoever parses the result.
func withoutCommands(text []byte, drop map[string]bool) []byte {
	var out []string
	inside := false
	for line := range strings.Lines(string(text)) {
		m := commandKeys.FindStringSubmatch(line)
		starts := m != nil && drop[m[1]]
		if !inside && !starts {
			out = append(out, line)
			continue
		}
		out = append(out, "# not confirmed: "+line)
		inside = !strings.Contains(line, "]")
	}
	return []byte(strings.Join(out, ""))
}
