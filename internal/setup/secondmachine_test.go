package setup

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// shown is the machine of docs/laptop.md.
var shown = SecondMachine{
	Host: "dalidou", Target: "laptop", User: "atobackup", Path: "/home/atobackup/vault",
	SSHKey: "ssh-ed25519 AAAA… atobackupd@dalidou", Signer: "ssh-ed25519 AAAA…", AppendOnly: true,
}

// What init prints and what the page says is one text.
func TestLaptopPageShowsTheScript(t *testing.T) {
	page, err := os.ReadFile("../../docs/laptop.md")
	if err != nil {
		t.Fatal(err)
	}
	script, err := shown.Script()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "```sh\n"+script+"```\n") {
		t.Errorf("docs/laptop.md does not show this script:\n%s", script)
	}
}

// Every kind of script is what a shell reads, and says what the account may do.
func TestSecondMachineScripts(t *testing.T) {
	for name, c := range map[string]struct {
		change      func(*SecondMachine)
		has, hasNot string
	}{
		"append-only": {func(m *SecondMachine) {}, "-u 0377", "account.conf"},
		"ordinary": {func(m *SecondMachine) { m.AppendOnly = false }, "ForceCommand internal-sftp -d $vault",
			"vault init"},
		"another account": {func(m *SecondMachine) { m.User = "keeper" }, "vault-$job.service.d/account.conf",
			"'atobackup'"},
	} {
		m := shown
		c.change(&m)
		script, err := m.Script()
		if err != nil {
			t.Fatal(err)
		}
		check := exec.Command("sh", "-n")
		check.Stdin = strings.NewReader(script)
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", name, err, out)
		}
		if !strings.Contains(script, c.has) || strings.Contains(script, c.hasNot) {
			t.Errorf("%s: it lacks %q or has %q:\n%s", name, c.has, c.hasNot, script)
		}
		// sftp-server drops what is past its ninth word.
		if n := len(strings.Fields(m.ForceCommand() + " -d /vault")); n > 9 {
			t.Errorf("%s: %d words in the forced command", name, n)
		}
	}
}

// Whoever has an account there goes on using it: the script touches none that has a
// shell.
func TestScriptLeavesSomebodysAccount(t *testing.T) {
	script, err := shown.Script()
	if err != nil {
		t.Fatal(err)
	}
	for shell, want := range map[string]string{
		"/bin/bash": "it is somebody's", "/usr/sbin/nologin": "usermod was run", "/bin/false": "usermod was run",
	} {
		bin := t.TempDir()
		for name, does := range map[string]string{
			"id": "exit 0", "atobackupd": "exit 0", "sshd": "exit 0", "usermod": "echo usermod was run; exit 1",
			"getent": "echo atobackup:x:998:998::/home/atobackup:" + shell, "install": "exit 1",
		} {
			if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+does+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		run := exec.Command("sh")
		run.Env, run.Stdin = []string{"PATH=" + bin + ":/usr/bin:/bin"}, strings.NewReader(script)
		if out, err := run.CombinedOutput(); err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v: %s", shell, err, out)
		}
	}
}

func TestConverse(t *testing.T) {
	dir := atocore(t)
	compose := filepath.Join(dir, "srv/app/deploy/docker-compose.yml")
	if err := os.MkdirAll(filepath.Dir(compose), 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, compose, "services:\n  atocore:\n    image: atocore\n")
	db := filepath.Join(dir, "srv/data/db/atocore.db")
	for _, c := range []struct {
		name, answers string
		check         func(r InitRequest) bool
	}{
		{"what is found is taken", "/nowhere\n" + db + "\n\n\n\nlaptop.local, laptop.tailnet\n\nyes\n",
			func(r InitRequest) bool {
				return r.DB == db && r.ComposeFile == compose && len(r.TargetHosts) == 2 && !r.Ordinary &&
					r.DrawerKey &&
					r.BackupDir == filepath.Join(dir, "srv/backups")
			}},
		{"all of it refused", db + "\n/b\n-\n-\nlaptop\nmaybe\nn\nn\n", func(r InitRequest) bool {
			return r.ComposeFile == "" && r.HealthURL == "" && r.Ordinary && !r.DrawerKey && r.BackupDir == "/b"
		}},
	} {
		var r InitRequest
		var out strings.Builder
		if err := r.Converse(t.Context(), strings.NewReader(c.answers), &out); err != nil || !c.check(r) {
			t.Errorf("%s: %v: %+v\n%s", c.name, err, r, &out)
		}
		if n := strings.Count(out.String(), "]: "); n > 15 {
			t.Errorf("%s: %d questions", c.name, n)
		}
	}
	var r InitRequest
	if err := r.Converse(t.Context(), strings.NewReader(db+"\n"), &strings.Builder{}); err == nil {
		t.Error("a conversation that was broken off was taken for an answer")
	}
}

// Two compose files, or none that speaks of AtoCore, are no guess.
func TestFindCompose(t *testing.T) {
	dir := t.TempDir()
	if found := findCompose(dir); found != "" {
		t.Errorf("found %s in nothing", found)
	}
	put(t, filepath.Join(dir, "compose.yaml"), "services: {web: {}}")
	if found := findCompose(dir); found != "" {
		t.Errorf("found %s, which is of something else", found)
	}
	put(t, filepath.Join(dir, "docker-compose.yml"), "services: {atocore: {}}")
	if found := findCompose(dir); filepath.Base(found) != "docker-compose.yml" {
		t.Errorf("found %q", found)
	}
	put(t, filepath.Join(dir, "compose.yml"), "services: {atocore: {}}")
	if found := findCompose(dir); found != "" {
		t.Errorf("guessed %s between two", found)
	}
}

// The second key is shown, is among the recipients, and lies nowhere on the disk.
func TestDrawerKey(t *testing.T) {
	dir := atocore(t)
	r := initRequest(dir)
	r.DrawerKey = true
	report, err := Init(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(report.DrawerKey, "AGE-SECRET-KEY-1") || len(report.Recipients) != 2 ||
		report.SecondMachine == nil {
		t.Fatalf("%+v", report)
	}
	err = filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			data, readErr := os.ReadFile(path)
			if err = readErr; strings.Contains(string(data), report.DrawerKey) {
				t.Errorf("%s holds the key of the drawer", path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	again, err := Init(t.Context(), r)
	if err != nil || again.DrawerKey != "" {
		t.Errorf("a second run: %v, a key %v", err, again.DrawerKey != "")
	}
	code, err := QRCode(report.DrawerKey)
	lines := strings.Split(strings.TrimSpace(code), "\n")
	if err != nil || len(lines) < 15 || len(lines) > 26 {
		t.Errorf("the code has %d lines: %v", len(lines), err)
	}
}
