package setup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
)

// TestMain also is what `config check` runs as another user: this program again.
func TestMain(m *testing.M) {
	if len(os.Args) == 6 && os.Args[1] == "config" && os.Args[2] == CheckAccessCommand {
		cfg, err := config.Load(os.Args[5])
		var report ConfigReport
		if err == nil {
			report, err = CheckAccess(context.Background(), cfg)
		}
		if writeErr := json.NewEncoder(os.Stdout).Encode(report); writeErr != nil || report.Path == "" {
			fmt.Fprintln(os.Stderr, errors.Join(err, writeErr))
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// deployed is an installation as init makes it, with everything that config check
// would miss.
func deployed(t *testing.T) (dir string, cfg *config.Config) {
	t.Helper()
	dir = atocore(t)
	r := initRequest(dir)
	r.HealthURL = "http://127.0.0.1:9/health"
	r.ComposeFile = filepath.Join(dir, "srv/docker-compose.yml")
	put(t, r.ComposeFile, "services:\n  atocore:\n    volumes:\n      - ./data:/data\n      - /srv:/srv:ro\n")
	report, err := Init(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if cfg, err = config.Load(report.Config.Path); err != nil {
		t.Fatal(err)
	}
	return dir, cfg
}

// Each thing that a restore will miss on its day is warned of on the first one,
// and not where all is well.
func TestCheckDeployment(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, dir string, cfg *config.Config)
		want  []string // of the warnings that come with it
	}{
		{"all is well", func(*testing.T, string, *config.Config) {}, nil},
		{"no health_url", func(t *testing.T, dir string, cfg *config.Config) {
			cfg.AtoCore.HealthURL = ""
		}, []string{"atocore.health_url: it is not set: a restore cannot ask whether AtoCore still runs"}},
		{"no commands", func(t *testing.T, dir string, cfg *config.Config) {
			cfg.Restore.StopCommand, cfg.Restore.StartCommand = nil, nil
		}, []string{"restore.stop_command: it is not set, and neither is start_command"}},
		{"the compose file is gone", func(t *testing.T, dir string, cfg *config.Config) {
			if err := os.Remove(filepath.Join(dir, "srv/docker-compose.yml")); err != nil {
				t.Fatal(err)
			}
		}, []string{
			"restore.stop_command: open " + "%s/srv/docker-compose.yml: no such file or directory",
			"restore.start_command: open " + "%s/srv/docker-compose.yml: no such file or directory",
		}},
		{"the compose file after --file=", func(t *testing.T, dir string, cfg *config.Config) {
			cfg.Restore.StopCommand = []string{"docker", "compose", "--file=/nowhere/compose.yml", "down"}
		}, []string{"restore.stop_command: open /nowhere/compose.yml"}},
		{"a named volume", func(t *testing.T, dir string, cfg *config.Config) {
			put(t, filepath.Join(dir, "srv/docker-compose.yml"),
				"services:\n  atocore:\n    volumes:\n      - atodata:/data\n      - \"logs:/var/log\"\n")
		}, []string{
			"restore.stop_command: %s/srv/docker-compose.yml mounts the named volume atodata",
			"restore.start_command: %s/srv/docker-compose.yml mounts the named volume logs",
		}},
		{"data in a volume of Docker's", func(t *testing.T, dir string, cfg *config.Config) {
			cfg.AtoCore.RegistryPath = "/var/lib/docker/volumes/ato/_data/project-registry.json"
		}, []string{
			"atocore.registry_path: /var/lib/docker/volumes/ato/_data/project-registry.json is in Docker's own volumes",
		}},
		{"AtoCore's snapshots", func(t *testing.T, dir string, cfg *config.Config) {
			foreignSnapshots(t, cfg)
		}, []string{"backup.dir: 2 of the snapshots in %s/srv/backups/snapshots belong to another user, e.g. " +
			"20260405T050000Z: they count for nothing until they are yours: chown -R atobackupd: "}},
		{"AtoCore's snapshots, where it may add them", func(t *testing.T, dir string, cfg *config.Config) {
			foreignSnapshots(t, cfg)
			cfg.Backup.AtoCoreGroup = "1000"
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, cfg := deployed(t)
			before, err := CheckConfig(t.Context(), cfg, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			c.spoil(t, dir, cfg)
			after, _ := CheckConfig(t.Context(), cfg, time.Now())
			for _, want := range c.want {
				if strings.Contains(want, "%s") {
					want = fmt.Sprintf(want, dir)
				}
				if !strings.Contains(strings.Join(after.Warnings, "\n"), want) {
					t.Errorf("no warning %q in %q", want, after.Warnings)
				}
				if strings.Contains(strings.Join(before.Warnings, "\n"), want) {
					t.Errorf("%q is warned of where all is well", want)
				}
			}
			if c.want == nil && len(after.Warnings) > len(before.Warnings) {
				t.Errorf("warnings that nothing is the cause of: %q", after.Warnings)
			}
		})
	}
}

// foreignSnapshots makes two snapshots of uid 1000 and one of ours.
func foreignSnapshots(t *testing.T, cfg *config.Config) {
	t.Helper()
	for i, stamp := range []string{"20260405T050000Z", "20260406T060000Z", "20260407T060000Z"} {
		dir := filepath.Join(cfg.Backup.Dir, "snapshots", stamp)
		err := os.MkdirAll(dir, 0o755)
		if i < 2 {
			err = errors.Join(err, os.Lchown(dir, 1000, 1000))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// What the service's user may read and write is found out by that user, which has
// one capability: it reads everything, and writes only what is its own.
func TestCheckAsTheService(t *testing.T) {
	nobody := &user.User{Uid: "65534", Gid: "65534"}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	searchable(t, filepath.Dir(self))
	own := func(t *testing.T, paths ...string) {
		for _, path := range paths {
			if err := errors.Join(os.MkdirAll(path, 0o700), os.Chown(path, 65534, 65534)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name     string
		prepare  func(t *testing.T, dir string, cfg *config.Config)
		groups   []string
		err      string
		warning  string
		noErrors bool
	}{
		{name: "everything is root's", prepare: func(*testing.T, string, *config.Config) {},
			err: "backup.dir: as nobody: write %s/srv/backups: permission denied: chown -R atobackupd: " +
				"%[1]s/srv/backups"},
		{name: "its own directories", prepare: func(t *testing.T, dir string, cfg *config.Config) {
			own(t, cfg.Backup.Dir, cfg.StateDir)
		}, noErrors: true, warning: `backup.chroma_method: "live" as nobody cannot lock ` +
			"%s/srv/data/chroma/chroma.sqlite3 for writing"},
		{name: "snapshots/ is AtoCore's", prepare: func(t *testing.T, dir string, cfg *config.Config) {
			own(t, cfg.Backup.Dir, cfg.StateDir)
			foreignSnapshots(t, cfg)
			if err := os.Chown(filepath.Join(cfg.Backup.Dir, "snapshots"), 1000, 1000); err != nil {
				t.Fatal(err)
			}
		}, err: "backup.dir: as nobody: write %s/srv/backups/snapshots: permission denied"},
		{name: "the group may lock Chroma", prepare: func(t *testing.T, dir string, cfg *config.Config) {
			own(t, cfg.Backup.Dir, cfg.StateDir)
			for _, path := range []string{cfg.AtoCore.ChromaPath, cfg.AtoCore.ChromaPath + "/chroma.sqlite3"} {
				if err := errors.Join(os.Chown(path, 1000, 1000), os.Chmod(path, 0o770)); err != nil {
					t.Fatal(err)
				}
			}
		}, groups: []string{"1000"}, noErrors: true},
		{name: "no database", prepare: func(t *testing.T, dir string, cfg *config.Config) {
			own(t, cfg.Backup.Dir, cfg.StateDir)
			if err := os.Remove(cfg.AtoCore.DBPath); err != nil {
				t.Fatal(err)
			}
		}, err: "atocore.db_path: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, cfg := deployed(t)
			c.prepare(t, dir, cfg)
			searchable(t, dir)
			found, err := asUser(t.Context(), nobody, c.groups, cfg.Path)
			if err != nil {
				t.Fatal(err)
			}
			place := func(want string) string {
				if strings.Contains(want, "%") {
					return fmt.Sprintf(want, dir)
				}
				return want
			}
			errs, warnings := strings.Join(found.Errors, "\n"), strings.Join(found.Warnings, "\n")
			if c.noErrors != (errs == "") || !strings.Contains(errs, place(c.err)) {
				t.Errorf("errors %q, want %q", errs, place(c.err))
			}
			if !strings.Contains(warnings, place(c.warning)) {
				t.Errorf("warnings %q, want %q", warnings, place(c.warning))
			}
			if c.groups != nil && strings.Contains(warnings, "cannot lock") {
				t.Errorf("it may lock Chroma, and is told that it may not: %q", warnings)
			}
		})
	}
	if _, err := asUser(t.Context(), &user.User{Uid: "none", Gid: "0"}, nil, "/nowhere"); err == nil {
		t.Error("a user without a number")
	}
	if _, err := asUser(t.Context(), nobody, nil, "/nowhere"); err == nil {
		t.Error("a check that could not begin was taken for a clean one")
	}
}

// searchable lets everybody reach what lies in a directory of the tests'.
func searchable(t *testing.T, dir string) {
	t.Helper()
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm()&0o001 == 0 {
			if err := os.Chmod(dir, 0o711); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// The two commands that open Chroma's directory are run as they are printed.
func TestCommandsThatLetTheServiceLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "chroma")
	file := filepath.Join(dir, "chroma.sqlite3")
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	put(t, file, "")
	run := func(command string) {
		t.Helper()
		command = strings.TrimPrefix(command, "sudo ")
		if out, err := exec.Command("sh", "-ec", command).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
	}
	run(letGroupLock(dir))
	for path, want := range map[string]os.FileMode{dir: 0o770, file: 0o620} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	units := t.TempDir()
	command := strings.ReplaceAll(letUnitWrite(dir), "/etc/systemd/system", units)
	run(strings.Replace(command, "systemctl daemon-reload", "true", 1))
	got := read(t, filepath.Join(units, "atobackupd.service.d/chroma.conf"))
	if got != "[Service]\nReadWritePaths="+dir+"\n" {
		t.Errorf("the drop-in is %q", got)
	}
}

// Places that cannot be written, or are none.
func TestWritableDir(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "file"), "")
	for _, c := range []struct {
		name, path, want string
		kind             failure.Kind
	}{
		{"is there", dir, "", failure.Other},
		{"can be made", filepath.Join(dir, "new"), "", failure.Other},
		{"its parent cannot", filepath.Join(dir, "no/new"), "make it, owned by the user", failure.Config},
		{"below a file", filepath.Join(dir, "file/new"), "not a directory", failure.Other},
		{"a file", filepath.Join(dir, "file"), "is not a directory", failure.Other},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := writableDir(c.path)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", c.path, err, c.want)
			}
			if err != nil && c.kind != failure.Other && failure.KindOf(err) != c.kind {
				t.Errorf("%s: kind %v", c.path, failure.KindOf(err))
			}
		})
	}
}
