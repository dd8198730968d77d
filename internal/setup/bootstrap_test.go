package setup

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/app/apptest"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/snapshot"
)

// A machine is gone: the vault and the key from the drawer are enough to go on, and
// no command of the unsealed configuration survives that nobody confirmed.
func TestBootstrapGoesOnWithTheVault(t *testing.T) {
	dir := apptest.Make(t, "\n[restore]\nstop_command = [\n  \"/bin/evil\",\n]\nstart_command = [\"/bin/true\"]\n")
	key := filepath.Join(t.TempDir(), "key.txt")
	recipient, err := crypt.WriteIdentity(key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "config.toml")
	text := read(t, path)
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "recipients = ") {
			text = strings.Replace(text, line, "recipients = [\""+recipient+"\"]\n", 1)
		}
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	open := func() *app.App {
		cfg, err := config.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		a, err := app.Open(t.Context(), cfg, app.Options{Version: "test", Host: "dalidou"})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := open()
	if _, err := a.Backup(t.Context(), snapshot.Daily, false, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Sync(t.Context(), "", false); err != nil {
		t.Fatal(err)
	}
	signer := read(t, filepath.Join(dir, "state/signing_key.pub"))
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	for _, gone := range []string{"state", "backups", "config.toml"} {
		if err := os.RemoveAll(filepath.Join(dir, gone)); err != nil {
			t.Fatal(err)
		}
	}

	identities, err := crypt.LoadIdentities(key)
	if err != nil {
		t.Fatal(err)
	}
	v, err := app.OpenVaultDir(t.Context(), filepath.Join(dir, "vault"), []string{signer})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	request := BootstrapRequest{Identities: identities, DryRun: true,
		Confirm: func(q string) bool { return strings.Contains(q, "start_command") }}
	report, err := Bootstrap(t.Context(), v, request)
	if err != nil || len(report.Files) < 2 || report.Files[0].Written {
		t.Fatalf("%+v, %v", report, err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Fatal("a dry run wrote the configuration")
	}
	elsewhere := request
	elsewhere.ConfigPath = filepath.Join(dir, "elsewhere.toml")
	if other, err := Bootstrap(t.Context(), v, elsewhere); err != nil || other.Config != elsewhere.ConfigPath ||
		!slices.ContainsFunc(other.Files, func(f BootstrapFile) bool { return f.Path == elsewhere.ConfigPath }) ||
		slices.ContainsFunc(other.Files, func(f BootstrapFile) bool { return f.Path == path }) {
		t.Errorf("with a path of its own: %+v, %v", other, err)
	}
	request.DryRun = false
	if report, err = Bootstrap(t.Context(), v, request); err != nil {
		t.Fatal(err)
	}
	if _, err := Bootstrap(t.Context(), v, request); failure.KindOf(err) != failure.Refused {
		t.Errorf("over what is there: %v", err)
	}
	a = open()
	defer a.Close()
	if c := a.Config.Restore; len(c.StopCommand) != 0 || len(c.StartCommand) != 1 {
		t.Errorf("commands: %q, %q", c.StopCommand, c.StartCommand)
	}
	// What a bootstrap has in staging/, and leaves there when it is killed.
	staging, left := filepath.Join(dir, "backups/staging"), map[string]bool{}
	stop := fsx.Observe(func(op fsx.Op, path string) error {
		entries, _ := os.ReadDir(staging)
		for _, entry := range entries {
			left[entry.Name()] = true
		}
		return nil
	})
	continued, err := a.Continue(t.Context(), v, report.Target, identities)
	stop()
	if err != nil || len(continued.Snapshots) != 1 {
		t.Fatalf("%+v, %v", continued, err)
	}
	lost := func(when string, want bool) {
		t.Helper()
		look := open()
		defer look.Close()
		is := false
		for _, c := range look.Report(t.Context(), time.Now()).Conditions {
			if c.Level == health.LevelCritical {
				is = is || c.Name == health.ConditionHistory
				if !want {
					t.Errorf("%s: %+v", when, c)
				}
			}
		}
		if is != want {
			t.Errorf("%s: the history was lost: %t, want %t", when, is, want)
		}
	}
	lost("a new machine", false)
	if len(left) == 0 {
		t.Error("nothing was seen in staging")
	}
	for name := range left {
		if err := os.MkdirAll(filepath.Join(staging, name, "snapshot"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.Backup(t.Context(), snapshot.Daily, false, time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(staging); err != nil || len(entries) > 0 {
		t.Errorf("staging still holds %v, %v", entries, err)
	}
	docs, err := a.Sync(t.Context(), "", false)
	if err != nil || len(docs[0].Pushed) != 1 || docs[0].Pushed[0].Base {
		t.Errorf("the next push: %v, %+v", err, docs)
	}
	lost("after the next push", false)
	if err := os.Remove(filepath.Join(dir, "state/history.db")); err != nil {
		t.Fatal(err)
	}
	lost("once the history is lost for real", true)
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
