package setup

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/config"
)

// Every row of config check is made for real, one at a time, over an installation
// in which nothing of it is wrong.
func TestCheckRows(t *testing.T) {
	write := func(t *testing.T, path, text string, mode os.FileMode) {
		t.Helper()
		if err := errors.Join(os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name    string
		spoil   func(t *testing.T, dir string, cfg *config.Config)
		warning string
		err     string
	}{
		{
			name: "no host key was trusted yet",
			spoil: func(t *testing.T, dir string, cfg *config.Config) {
				cfg.Offsite[0].KnownHosts = filepath.Join(dir, "nothing")
			},
			warning: "offsite.laptop.known_hosts: open %DIR/nothing: no such file or directory: record the host key " +
				"with " +
				"`atobackupd target trust laptop`",
		},
		{
			name: "one of its names has no key",
			spoil: func(t *testing.T, dir string, cfg *config.Config) {
				write(t, cfg.Offsite[0].KnownHosts,
					"laptop.local ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHAW06mORTUqyAvoxh5I\n", 0o600)
			},
			warning: "has no key of laptop.tailnet: record it with `atobackupd target trust laptop`",
		},
		{
			name: "known_hosts is a directory",
			spoil: func(t *testing.T, dir string, cfg *config.Config) {
				cfg.Offsite[0].KnownHosts = dir
			},
			err: "offsite.laptop.known_hosts: read %DIR: is a directory",
		},
		{
			name: "the ssh key can be read by everybody",
			spoil: func(t *testing.T, dir string, cfg *config.Config) {
				if err := os.Chmod(cfg.Offsite[0].IdentityFile, 0o644); err != nil {
					t.Fatal(err)
				}
			},
			warning: "offsite.laptop.identity_file: %DIR/etc/id_ed25519 can be read by every user: chmod 600 it",
		},
		{
			name: "there is no ssh key",
			spoil: func(t *testing.T, dir string, cfg *config.Config) {
				if err := os.Remove(cfg.Offsite[0].IdentityFile); err != nil {
					t.Fatal(err)
				}
			},
			err: "no such file or directory: make it with `ssh-keygen -t ed25519 -N '' -f %DIR/etc/id_ed25519`",
		},
		{
			name: "the ssh key has a passphrase",
			spoil: func(t *testing.T, dir string, cfg *config.Config) {
				cfg.Offsite[0].IdentityFile = filepath.Join(dir, "locked")
				out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f",
					cfg.Offsite[0].IdentityFile).CombinedOutput()
				if err != nil {
					t.Fatalf("%v (Debian: openssh-client): %s", err, out)
				}
			},
			err: "offsite.laptop.identity_file: %DIR/locked has a passphrase, and nobody is there to type it",
		},
		{
			name: "the vault is on the same disk",
			spoil: func(t *testing.T, dir string, cfg *config.Config) {
				cfg.Offsite = []config.Target{{Name: "disk", Type: "dir", Path: filepath.Join(dir, "vault")}}
				if err := os.Mkdir(cfg.Offsite[0].Path, 0o700); err != nil {
					t.Fatal(err)
				}
			},
			warning: "offsite.disk: %DIR/vault is on the same disk as the snapshots: one broken disk takes both",
		},
		{
			name: "the vault's directory cannot be made",
			spoil: func(t *testing.T, dir string, cfg *config.Config) {
				cfg.Offsite = []config.Target{{Name: "disk", Type: "dir", Path: filepath.Join(dir, "no/such/vault")}}
			},
			err: "offsite.disk.path: stat %DIR/no/such/vault: no such file or directory",
		},
		{
			name: "the token can be read by everybody",
			spoil: func(t *testing.T, dir string, cfg *config.Config) {
				cfg.HTTP.TokenFile = filepath.Join(dir, "token")
				write(t, cfg.HTTP.TokenFile, strings.Repeat("x", 40), 0o644)
			},
			warning: "http.token_file: %DIR/token can be read by every user: chmod 600 it",
		},
		{
			name: "the file of addresses is empty",
			spoil: func(t *testing.T, dir string, cfg *config.Config) {
				cfg.Notify.URLsFile = filepath.Join(dir, "urls")
				write(t, cfg.Notify.URLsFile, "# nobody\n", 0o600)
			},
			warning: "notify.urls_file: %DIR/urls holds no address: nobody is told",
		},
		{
			name: "the file of addresses can be read by everybody",
			spoil: func(t *testing.T, dir string, cfg *config.Config) {
				cfg.Notify.URLsFile = filepath.Join(dir, "urls")
				write(t, cfg.Notify.URLsFile, "ntfy://ntfy.example/topic\n", 0o644)
			},
			warning: "notify.urls_file: %DIR/urls can be read by every user: chmod 600 it",
		},
		{
			name: "a Chroma without its database",
			spoil: func(t *testing.T, dir string, cfg *config.Config) {
				if err := os.Remove(filepath.Join(cfg.AtoCore.ChromaPath, "chroma.sqlite3")); err != nil {
					t.Fatal(err)
				}
			},
			warning: "atocore.chroma_path: there is no chroma.sqlite3 in %DIR/srv/data/chroma: " +
				"what is there is copied without a validation",
		},
		{
			name: "a command that no program answers to",
			spoil: func(t *testing.T, dir string, cfg *config.Config) {
				cfg.Restore.StartCommand = []string{"no-such-program", "start"}
			},
			warning: `restore.start_command: exec: "no-such-program": executable file not found in $PATH`,
		},
		{
			name: "a recipient that is an identity",
			spoil: func(t *testing.T, dir string, cfg *config.Config) {
				secret, _, err := crypt.GenerateIdentity()
				if err != nil {
					t.Fatal(err)
				}
				cfg.Encryption.Recipients = []string{secret}
			},
			err: "encryption: ",
		},
		{
			name: "a file of recipients that is not there",
			spoil: func(t *testing.T, dir string, cfg *config.Config) {
				cfg.Encryption.RecipientsFile = filepath.Join(dir, "nothing")
			},
			err: "encryption: ",
		},
		{
			name: "a restore that waits to be finished",
			spoil: func(t *testing.T, dir string, cfg *config.Config) {
				write(t, filepath.Join(cfg.StateDir, "restore-journal.json"),
					`{"schema":1,"phase":"swapping","stamp":"20260407T060000Z"}`, 0o600)
			},
			err: "backup.dir: ",
		},
		{
			name: "backups that anybody can write",
			spoil: func(t *testing.T, dir string, cfg *config.Config) {
				if err := os.Chmod(cfg.Backup.Dir, 0o777); err != nil {
					t.Fatal(err)
				}
			},
			err: "backup.dir: ",
		},
		{
			name: "an alarm that rings between two runs",
			spoil: func(t *testing.T, dir string, cfg *config.Config) {
				cfg.Alarms.Snapshot = config.Limit(time.Hour)
			},
			warning: "alarms.snapshot",
		},
		{
			name: "a time zone that is none",
			spoil: func(t *testing.T, dir string, cfg *config.Config) {
				cfg.Schedule.Timezone = "Europe/Atlantis"
			},
			err: "Europe/Atlantis",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, cfg := deployed(t)
			write(t, cfg.Offsite[0].KnownHosts,
				"laptop.local,laptop.tailnet ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHAW06mORTUqyAvoxh5I\n", 0o600)
			warning, wantErr := strings.ReplaceAll(c.warning, "%DIR", dir), strings.ReplaceAll(c.err, "%DIR", dir)
			before, err := CheckConfig(t.Context(), cfg, time.Now())
			if err != nil || c.warning != "" && strings.Contains(strings.Join(before.Warnings, "\n"), warning) {
				t.Fatalf("where nothing is wrong: %v, %q", err, before.Warnings)
			}
			c.spoil(t, dir, cfg)
			after, err := CheckConfig(t.Context(), cfg, time.Now())
			if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), wantErr) {
				t.Errorf("error %v, want %q", err, wantErr)
			}
			if !strings.Contains(strings.Join(after.Warnings, "\n"), warning) {
				t.Errorf("warnings %q, want %q", after.Warnings, warning)
			}
			if len(after.Errors) > 0 != (c.err != "") {
				t.Errorf("the report's errors: %q", after.Errors)
			}
		})
	}
}

// The example is edited by its keys, wherever they stand and whether they are
// turned off or not; what it does not have is an error, not a line at its end.
func TestConfigEditor(t *testing.T) {
	const example = "top = 1\n[a]\nkey = \"old\"\n#off = \"\"\n# key = in a sentence\n[b]\n#key = \"\"\n#[[c]]\n#key " +
		"= \"x\""
	for _, c := range []struct {
		name string
		edit func(e *configEditor)
		want string // the line that must be there
		err  string
	}{
		{"a key of a table", func(e *configEditor) { e.set("[a]", "key", "new") }, "[a]\nkey = \"new\"\n", ""},
		{"of another table", func(e *configEditor) { e.set("[b]", "key", "new") }, "[b]\nkey = \"new\"\n", ""},
		{"above all tables", func(e *configEditor) { e.set("", "top", "x") }, "top = \"x\"\n", ""},
		{"turned on", func(e *configEditor) { e.set("[a]", "off", "on") }, "\noff = \"on\"\n", ""},
		{"turned off", func(e *configEditor) { e.set("[a]", "key", "") }, "\n#key = \"\"\n", ""},
		{"quotes and backslashes", func(e *configEditor) { e.set("[a]", "key", `a "b" \c`) }, `key = "a \"b\" \\c"`,
			""},
		{"a list", func(e *configEditor) { e.setList("[a]", "key", []string{"x", "y z"}) }, `key = ["x", "y z"]`, ""},
		{"an empty list", func(e *configEditor) { e.setList("[a]", "key", nil) }, "key = []", ""},
		{"a table turned on", func(e *configEditor) {
			e.uncomment("#[[c]]")
			e.set("[[c]]", "key", "new")
		}, "[[c]]\nkey = \"new\"", ""},
		{"a key of a table that is off", func(e *configEditor) { e.set("[[c]]", "key", "new") }, "",
			"the example configuration has no [[c]] key"},
		{"a key that is not there", func(e *configEditor) { e.set("[a]", "none", "new") }, "",
			"the example configuration has no [a] none"},
		{"a table that is not there", func(e *configEditor) { e.uncomment("#[d]") }, "",
			"the example configuration has no #[d]"},
		{"the first error stays", func(e *configEditor) {
			e.uncomment("#[d]")
			e.set("[a]", "none", "x")
		}, "", "has no #[d]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := &configEditor{lines: strings.Split(example, "\n")}
			c.edit(e)
			text := strings.Join(e.lines, "\n")
			if !strings.Contains(text, c.want) {
				t.Errorf("%q is not in:\n%s", c.want, text)
			}
			if (e.err != nil) != (c.err != "") || e.err != nil && !strings.Contains(e.err.Error(), c.err) {
				t.Errorf("error %v, want %q", e.err, c.err)
			}
			if n := strings.Count(example, "\n"); strings.Count(text, "\n") != n {
				t.Errorf("it has %d lines, not %d", strings.Count(text, "\n")+1, n+1)
			}
		})
	}
}
