package setup

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/snapshot/chroma"
)

// Each row of config check, made for real on an installation that was well. DIR is
// the installation's directory; a finding is the whole text, or what it begins with.
func TestCheckFindings(t *testing.T) {
	file := func(t *testing.T, path, text string, mode os.FileMode) string {
		t.Helper()
		put(t, path, text)
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const token = "0123456789abcdef0123456789abcdef"
	for _, c := range []struct {
		name     string
		spoil    func(t *testing.T, dir string, cfg *config.Config)
		errs     []string
		warnings []string
	}{
		{"addresses in a file that holds none", func(t *testing.T, dir string, cfg *config.Config) {
			cfg.Notify.URLsFile = file(t, dir+"/urls", "\n", 0o600)
		}, nil, []string{"notify.urls_file: DIR/urls holds no address: nobody is told"}},
		{"addresses that all can read", func(t *testing.T, dir string, cfg *config.Config) {
			cfg.Notify.URLsFile = file(t, dir+"/urls", "ntfy://ntfy.sh/topic\n", 0o644)
		}, nil, []string{"notify.urls_file: DIR/urls can be read by every user: chmod 600 it"}},
		{"addresses that the group can read", func(t *testing.T, dir string, cfg *config.Config) {
			cfg.Notify.URLsFile = file(t, dir+"/urls", "ntfy://ntfy.sh/topic\n", 0o640)
		}, nil, nil},
		{"no token", func(t *testing.T, dir string, cfg *config.Config) {
			cfg.HTTP.TokenFile = dir + "/token"
		}, []string{"http.token_file: open DIR/token: no such file or directory: make it with " +
			"`openssl rand -hex 32 >DIR/token`"}, nil},
		{"a token that can be guessed", func(t *testing.T, dir string, cfg *config.Config) {
			cfg.HTTP.TokenFile = file(t, dir+"/token", token[:15], 0o600)
		}, []string{"http.token_file: DIR/token holds 15 bytes, which can be guessed: make it with " +
			"`openssl rand -hex 32 >DIR/token`"}, nil},
		{"a token of the least length", func(t *testing.T, dir string, cfg *config.Config) {
			cfg.HTTP.TokenFile = file(t, dir+"/token", token[:16], 0o600)
		}, nil, nil},
		{"a token that all can read", func(t *testing.T, dir string, cfg *config.Config) {
			cfg.HTTP.TokenFile = file(t, dir+"/token", token, 0o604)
		}, nil, []string{"http.token_file: DIR/token can be read by every user: chmod 600 it"}},

		{"one vault under two names", func(t *testing.T, dir string, cfg *config.Config) {
			for _, name := range []string{"disk", "two"} {
				cfg.Offsite = append(cfg.Offsite, config.Target{Name: name, Type: "dir", Path: dir + "/" + name})
				if err := os.MkdirAll(cfg.StateDir+"/targets/"+name, 0o700); err != nil {
					t.Fatal(err)
				}
				put(t, cfg.StateDir+"/targets/"+name+"/state.json", `{"vault_id": "0123"}`)
			}
		}, []string{"offsite: disk and two are pinned to one vault, 0123: two names of one copy are one copy: remove " +
			"one of them, or give it a place of its own"}, nil},
		{"one directory under two names", func(t *testing.T, dir string, cfg *config.Config) {
			if err := errors.Join(os.Mkdir(dir+"/disk", 0o700), os.Symlink(dir+"/disk", dir+"/two")); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"disk", "two"} {
				cfg.Offsite = append(cfg.Offsite, config.Target{Name: name, Type: "dir", Path: dir + "/" + name})
			}
		}, []string{"offsite: disk and two are one directory: two names of one copy are one copy: remove one of them, " +
			"or give it a place of its own"}, nil},
		{"a group that this machine does not know", func(t *testing.T, dir string, cfg *config.Config) {
			cfg.Backup.AtoCoreGroup = "atocore-of-elsewhere"
		}, []string{"backup.atocore_group: atocore-of-elsewhere: no such group: write its number, which " +
			"`stat -c %g` shows of AtoCore's files"}, nil},
		{"a table that the database lacks", func(t *testing.T, dir string, cfg *config.Config) {
			cfg.AtoCore.RequiredTables = []string{"souvenirs"}
		}, []string{"atocore.db_path: backup: DIR/srv/data/db/atocore.db: required_tables: there is no table \"souvenirs\": " +
			"this is not the database that was meant, or atocore.required_tables is out of date"}, nil},
		{"nobody to hand messages to", func(t *testing.T, dir string, cfg *config.Config) {
			cfg.Notify.Command = []string{dir + "/tell", "ops"}
		}, nil, []string{"notify.command: exec: \"DIR/tell\": stat DIR/tell: no such file or directory"}},

		{"no ssh key", func(t *testing.T, dir string, cfg *config.Config) {
			cfg.Offsite[0].IdentityFile = dir + "/none"
		}, []string{"offsite.laptop.identity_file: open DIR/none: no such file or directory: make it with " +
			"`ssh-keygen -t ed25519 -N '' -f DIR/none`"}, nil},
		{"the public half of the ssh key", func(t *testing.T, dir string, cfg *config.Config) {
			cfg.Offsite[0].IdentityFile += ".pub"
		}, []string{"offsite.laptop.identity_file: DIR/etc/id_ed25519.pub is not a private ssh key (the public one " +
			"ends in .pub)"},
			[]string{"offsite.laptop.identity_file: DIR/etc/id_ed25519.pub can be read by every user"}},
		{"an ssh key that all can read", func(t *testing.T, dir string, cfg *config.Config) {
			if err := os.Chmod(cfg.Offsite[0].IdentityFile, 0o644); err != nil {
				t.Fatal(err)
			}
		}, nil, []string{"offsite.laptop.identity_file: DIR/etc/id_ed25519 can be read by every user: chmod 600 it"}},
		{"known hosts without one of the names", func(t *testing.T, dir string, cfg *config.Config) {
			put(t, cfg.Offsite[0].KnownHosts, "laptop.local ssh-ed25519 AAAA\n")
		}, nil, []string{"offsite.laptop.known_hosts: DIR/etc/known_hosts has no key of laptop.tailnet: record it " +
			"with `atobackupd target trust laptop`"}},
		{"a disk that is this one", func(t *testing.T, dir string, cfg *config.Config) {
			cfg.Offsite = []config.Target{{Name: "disk", Type: "dir", Path: dir + "/vault"}}
			if err := os.Mkdir(dir+"/vault", 0o700); err != nil {
				t.Fatal(err)
			}
		}, nil, []string{"offsite.disk: DIR/vault is on the same disk as the snapshots: one broken disk takes both"}},
		{"a disk that is not there", func(t *testing.T, dir string, cfg *config.Config) {
			cfg.Offsite = []config.Target{{Name: "disk", Type: "dir", Path: dir + "/mnt/disk/vault"}}
		}, []string{"offsite.disk.path: stat DIR/mnt/disk/vault: no such file or directory: make it, owned by the " +
			"user that atobackupd runs as"}, nil},
		{"no credentials of a bucket", func(t *testing.T, dir string, cfg *config.Config) {
			cfg.Offsite = []config.Target{{Name: "cloud", Type: "s3", CredentialsFile: dir + "/s3"}}
		}, []string{"offsite.cloud.credentials_file: stat DIR/s3: no such file or directory"}, nil},
		{"credentials that the group can read", func(t *testing.T, dir string, cfg *config.Config) {
			cfg.Offsite = []config.Target{{Name: "cloud", Type: "s3", CredentialsFile: file(t, dir+"/s3", "", 0o640)}}
		}, []string{"offsite.cloud.credentials_file: DIR/s3 can be read by others: chmod 600 it"}, nil},
		{"credentials as they should be", func(t *testing.T, dir string, cfg *config.Config) {
			cfg.Offsite = []config.Target{{Name: "cloud", Type: "s3", CredentialsFile: file(t, dir+"/s3", "", 0o600)}}
		}, nil, nil},

		{"no registry", func(t *testing.T, dir string, cfg *config.Config) {
			cfg.AtoCore.RegistryPath = dir + "/none.json"
		}, nil, []string{"atocore.registry_path: open DIR/none.json: no such file or directory: snapshots will hold " +
			"no registry"}},
		{"Chroma without its database", func(t *testing.T, dir string, cfg *config.Config) {
			if err := os.Remove(cfg.AtoCore.ChromaPath + "/chroma.sqlite3"); err != nil {
				t.Fatal(err)
			}
		}, nil, []string{"atocore.chroma_path: there is no chroma.sqlite3 in DIR/srv/data/chroma: what is there is " +
			"copied without a validation"}},
		{"a state directory that is a file", func(t *testing.T, dir string, cfg *config.Config) {
			cfg.StateDir = file(t, dir+"/file", "", 0o600)
		}, []string{"state_dir: DIR/file is not a directory"}, nil},
		{"snapshots that are a file", func(t *testing.T, dir string, cfg *config.Config) {
			file(t, cfg.Backup.Dir+"/snapshots", "", 0o600)
		}, []string{"backup.dir: DIR/srv/backups/snapshots is not a directory"}, nil},
		{"backups that the group can write", func(t *testing.T, dir string, cfg *config.Config) {
			if err := os.Chmod(cfg.Backup.Dir, 0o777); err != nil {
				t.Fatal(err)
			}
		}, []string{"backup.dir: "}, nil},
		{"a program that is not there", func(t *testing.T, dir string, cfg *config.Config) {
			cfg.Restore.StartCommand = []string{"/no/such/program"}
		}, nil, []string{"restore.start_command: "}},
		{"a method that freezes with programs that are not there", func(t *testing.T, dir string, cfg *config.Config) {
			cfg.Backup.ChromaMethod = chroma.MethodFreeze
			cfg.Backup.FreezeCommand, cfg.Backup.ThawCommand = []string{"/no/freeze"}, []string{"/no/thaw"}
		}, []string{"backup.freeze_command: ", "backup.thaw_command: "}, nil},
		{"an expression that is none", func(t *testing.T, dir string, cfg *config.Config) {
			cfg.Schedule.Daily = "every day"
		}, []string{"config DIR/etc/config.toml:"}, nil},
		{"no file of recipients", func(t *testing.T, dir string, cfg *config.Config) {
			cfg.Encryption.RecipientsFile = dir + "/none"
		}, []string{"encryption: "}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, cfg := deployed(t)
			put(t, cfg.Offsite[0].KnownHosts, "laptop.local,laptop.tailnet ssh-ed25519 AAAA\n")
			before, err := CheckConfig(t.Context(), cfg, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			c.spoil(t, dir, cfg)
			after, err := CheckConfig(t.Context(), cfg, time.Now())
			if (err == nil) != (len(c.errs) == 0) {
				t.Errorf("the check returned %v", err)
			}
			have := func(found, wanted []string) {
				t.Helper()
				for _, want := range wanted {
					want = strings.ReplaceAll(want, "DIR", dir)
					if !slices.ContainsFunc(found, func(text string) bool { return strings.HasPrefix(text, want) }) {
						t.Errorf("it lacks %q: %q", want, found)
					}
				}
			}
			have(after.Errors, c.errs)
			have(after.Warnings, c.warnings)
			for _, w := range after.Warnings {
				isNew := !slices.Contains(before.Warnings, w) && strings.Contains(w, filepath.Base(dir))
				if isNew && c.warnings == nil && c.errs == nil {
					t.Errorf("where all is well it warns: %s", w)
				}
			}
		})
	}
}

func TestComposeFiles(t *testing.T) {
	for _, test := range []struct{ words, want string }{
		{"docker compose down", ""},
		{"docker compose -f /a.yml down", "/a.yml"},
		{"docker compose -f /a.yml --file /b.yml down", "/a.yml /b.yml"},
		{"docker compose --file=/a.yml -f /b.yml up -d", "/a.yml /b.yml"},
		{"systemctl stop atocore", ""},
		{"docker compose -f", ""},
	} {
		if got := strings.Join(composeFiles(strings.Fields(test.words)), " "); got != test.want {
			t.Errorf("%s: %q, want %q", test.words, got, test.want)
		}
	}
}

// What of a compose file is a volume of Docker's own, and what a directory.
func TestNamedVolumes(t *testing.T) {
	for _, test := range []struct{ line, want string }{
		{"      - data:/data", "data"},
		{"      - \"data:/data\"", "data"},
		{"      - 'ato.core-1_x:/data:ro'", "ato.core-1_x"},
		{"      - ./data:/data", ""},
		{"      - ../data:/data", ""},
		{"      - /srv/data:/data", ""},
		{"      - ~/data:/data", ""},
		{"      - ${DATA}:/data", ""},
		{"      - 8100:8100", ""},
		{"      # - data:/data", ""},
	} {
		got := ""
		if m := namedVolume.FindStringSubmatch("    volumes:\n" + test.line + "\n"); m != nil {
			got = m[1]
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", test.line, got, test.want)
		}
	}
}
