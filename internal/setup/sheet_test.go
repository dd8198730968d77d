package setup

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/offsite"
)

// The sheet holds what a person needs who has nothing left of this machine, and
// nothing that is secret.
func TestSheetText(t *testing.T) {
	sftp := config.Target{Name: "laptop", Type: "sftp", Hosts: []string{"laptop.local", "laptop.tailnet"},
		User: "atobackup", Path: "/home/atobackup/vault"}
	disk := config.Target{Name: "disk", Type: "dir", Path: "/mnt/disk/vault"}
	for _, c := range []struct {
		name       string
		targets    []config.Target
		identity   *InitFile
		chroma     string
		want, none []string
	}{
		{
			name:     "a target elsewhere and a key made here",
			targets:  []config.Target{sftp},
			identity: &InitFile{Path: "/root/key.txt", Made: true},
			chroma:   "/srv/data/chroma",
			want: []string{
				"RECOVERY SHEET of dalidou, ",
				"made in:     /root/key.txt",
				"It must not stay on dalidou.",
				"   age1first\n   age1second\n",
				"signer:                ssh-ed25519 AAAA",
				"SHA-256 of recover.py: " + offsite.RecoverScriptSHA256(),
				"laptop: /home/atobackup/vault of laptop.local or laptop.tailnet, as atobackup",
				"--signer 'ssh-ed25519 AAAA'",
				"python3 -I VAULT/recover.py",
				"database  /srv/data/db/atocore.db",
				"chroma    /srv/data/chroma",
			},
			none: []string{"SECRET", "nowhere yet"},
		},
		{
			name:    "a disk, and keys that were given",
			targets: []config.Target{disk, sftp},
			want: []string{
				"disk: /mnt/disk/vault\n",
				"whose public keys are below; kept at: ____",
			},
			none: []string{"made in:", "chroma "},
		},
		{
			name: "buckets, with a prefix and without",
			targets: []config.Target{
				{Name: "cloud", Type: "s3", Endpoint: "https://s3.example.net", Bucket: "vault", Prefix: "dalidou"},
				{Name: "plain", Type: "s3", Endpoint: "https://s3.example.net", Bucket: "vault"},
			},
			want: []string{
				"cloud: s3 https://s3.example.net, bucket vault/dalidou\n",
				"plain: s3 https://s3.example.net, bucket vault\n",
			},
			none: []string{" as ", " of ,"},
		},
		{
			name: "no target",
			want: []string{
				"nowhere yet: no [[offsite]] target is configured. /srv/backups",
				"is all there is, and it goes with this machine.",
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := config.Default()
			cfg.AtoCore.DBPath, cfg.AtoCore.ChromaPath = "/srv/data/db/atocore.db", c.chroma
			cfg.Backup.Dir, cfg.Offsite = "/srv/backups", c.targets
			r := InitRequest{Host: "dalidou"}
			text := r.sheetText(cfg, InitReport{Identity: c.identity, Recipients: []string{"age1first", "age1second"},
				SigningKey: InitKey{Public: "ssh-ed25519 AAAA"}})
			for _, want := range c.want {
				if !strings.Contains(text, want) {
					t.Errorf("it does not say %q:\n%s", want, text)
				}
			}
			for _, none := range c.none {
				if strings.Contains(text, none) {
					t.Errorf("it says %q:\n%s", none, text)
				}
			}
			for line := range strings.Lines(text) {
				if len(line) > 81 && !strings.Contains(line, "ssh-ed25519") && !strings.Contains(line, "SHA-256") {
					t.Errorf("too wide for paper: %q", line)
				}
			}
		})
	}
}

// What is left to do is listed in the order in which it can be done, and only
// what is left.
func TestNextSteps(t *testing.T) {
	sftp := config.Target{Name: "laptop", Type: "sftp", Hosts: []string{"laptop.local"}}
	script := &InitFile{Path: "/root/laptop.sh"}
	ready := func(cfg *config.Config) {
		cfg.AtoCore.HealthURL = "http://127.0.0.1:8100/health"
		cfg.Restore.StopCommand = []string{"true"}
		cfg.Notify.Command = []string{"true"}
		cfg.Backup.Dir = "/srv/storage/atocore/backups"
	}
	always := []string{"print ", "atobackupd config check", "atobackupd backup", "atobackupd drill",
		"systemctl enable --now atobackupd", "atobackupd status"}
	for _, c := range []struct {
		name   string
		change func(cfg *config.Config, report *InitReport)
		order  []string
		none   []string
	}{
		{"nothing is left but to begin", func(cfg *config.Config, report *InitReport) {
			ready(cfg)
			cfg.Offsite = []config.Target{{Name: "disk", Type: "dir"}}
		}, always, []string{"move the secret key", "health_url", "[notify]", "unit's usual place", "target trust"}},
		{"a key to move", func(cfg *config.Config, report *InitReport) {
			ready(cfg)
			report.Identity = &InitFile{Path: "/root/key.txt"}
		}, []string{"move the secret key /root/key.txt off this machine", "print "}, nil},
		{"a second machine", func(cfg *config.Config, report *InitReport) {
			ready(cfg)
			cfg.Offsite, report.SecondMachine = []config.Target{sftp}, script
		}, []string{
			"copy /root/laptop.sh to laptop.local and run it there as root",
			"atobackupd target trust laptop",
			"atobackupd target test laptop",
			"atobackupd config check",
			"atobackupd backup",
			"atobackupd sync",
		}, []string{"add an [[offsite]] target"}},
		{"no second machine", func(cfg *config.Config, report *InitReport) { ready(cfg) },
			[]string{"add an [[offsite]] target to /etc/config.toml"}, []string{"atobackupd sync"}},
		{"nothing known of the service", func(cfg *config.Config, report *InitReport) {
			ready(cfg)
			cfg.AtoCore.HealthURL, cfg.Restore.StopCommand = "", nil
		}, []string{"set health_url in /etc/config.toml", "set stop_command and start_command in /etc/config.toml"}, nil},
		{"nobody is told", func(cfg *config.Config, report *InitReport) {
			ready(cfg)
			cfg.Notify.Command = nil
		}, []string{"say in [notify] of /etc/config.toml who is told"}, nil},
		{"backups elsewhere", func(cfg *config.Config, report *InitReport) {
			ready(cfg)
			cfg.Backup.Dir = "/backups"
		}, []string{"[Service] and ReadWritePaths=/backups"}, nil},
		{"Chroma", func(cfg *config.Config, report *InitReport) {
			ready(cfg)
			cfg.AtoCore.ChromaPath = "/srv/chroma"
		}, []string{"atobackupd config check", "atobackupd backup --chroma"}, nil},
		{"data of another group", func(cfg *config.Config, report *InitReport) {
			ready(cfg)
			cfg.AtoCore.DBPath = filepath.Join(groupDir(t, 4242), "atocore.db")
		}, []string{"the data belongs to group 4242: systemctl edit atobackupd, and write [Service] and " +
			"SupplementaryGroups=4242"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := config.Default()
			report := InitReport{Config: InitFile{Path: "/etc/config.toml"},
				RecoverySheet: InitFile{Path: "/root/sheet"}}
			c.change(cfg, &report)
			steps := (&InitRequest{}).next(cfg, report)
			at := -1
			for _, want := range c.order {
				i := slices.IndexFunc(steps, func(step string) bool { return strings.Contains(step, want) })
				if i <= at {
					t.Errorf("%q is step %d, after one that is %d, in %q", want, i, at, steps)
				}
				at = i
			}
			for _, none := range c.none {
				if strings.Contains(strings.Join(steps, "\n"), none) {
					t.Errorf("%q is asked for in %q", none, steps)
				}
			}
		})
	}
}

// groupDir makes a directory of a group.
func groupDir(t *testing.T, gid int) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chown(dir, -1, gid); err != nil {
		t.Fatal(err)
	}
	return dir
}
