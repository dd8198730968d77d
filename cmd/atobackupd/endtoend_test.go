package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/offsite/sftp/sshdtest"
)

// TestEndToEnd takes a snapshot, ships it to a real sshd, proves it there with
// stock tools, loses the store and gets it back: by atobackupd, and by recover.py
// on a PATH without atobackupd.
func TestEndToEnd(t *testing.T) {
	dir := t.TempDir()
	home := filepath.Join(dir, "laptop")
	must(t, os.Mkdir(home, 0o755))
	sshd := sshdtest.Start(t, sshdtest.Options{Root: home})
	identity := filepath.Join(dir, "key.txt")
	recipient, err := crypt.WriteIdentity(identity)
	must(t, err)
	for _, sub := range []string{"live/db", "live/config", "live/chroma"} {
		must(t, os.MkdirAll(filepath.Join(dir, sub), 0o755))
	}
	must(t, os.WriteFile(filepath.Join(dir, "live/config/project-registry.json"),
		[]byte(`{"projects": ["p05-interferometer"]}`), 0o644))
	output(t, dir, "tar", "-xzf", absolute(t, "../../snapshot/chroma/testdata/whole.tar.gz"), "-C", "live/chroma",
		"--strip-components=1")
	makeMemories(t, filepath.Join(dir, "live/db/atocore.db"), 5000)
	t.Setenv("ATOBACKUPD_CONFIG", filepath.Join(dir, "config.toml"))
	must(t, os.WriteFile(filepath.Join(dir, "config.toml"), fmt.Appendf(nil, `state_dir = "%[1]s/state"
[atocore]
db_path = "%[1]s/live/db/atocore.db"
registry_path = "%[1]s/live/config/project-registry.json"
chroma_path = "%[1]s/live/chroma"
required_tables = ["memories"]
[backup]
dir = "%[1]s/backups"
min_free = "1MiB"
[encryption]
recipients = ["%[2]s"]
[[offsite]]
name = "laptop"
hosts = ["%[3]s"]
port = %[4]d
user = "%[5]s"
identity_file = "%[6]s"
known_hosts = "%[1]s/known_hosts"
path = "%[7]s/vault"
`, dir, recipient, sshd.Host, sshd.Port, sshd.User, sshd.IdentityFile, home), 0o600))

	// A host that nobody vouched for gets nothing.
	must(t, os.WriteFile(filepath.Join(dir, "known_hosts"), nil, 0o644))
	command(t, 0, "backup", "--chroma")
	if out := command(t, 1, "sync", "--json"); !strings.Contains(out, `"state": "host_key_unknown"`) {
		t.Fatalf("an unknown host key: %s", out)
	}
	fingerprint := strings.Fields(output(t, dir, "ssh-keygen", "-l", "-f", sshd.KnownHosts))[1]
	command(t, 0, "target", "trust", "laptop", "--fingerprint", fingerprint)
	command(t, 0, "target", "test", "laptop")

	out := command(t, 0, "sync", "--json")
	var synced []struct {
		State  string `json:"state"`
		Pushed []struct {
			Stamp string `json:"stamp"`
			Packs int    `json:"packs"`
			Base  bool   `json:"base"`
		} `json:"pushed"`
	}
	must(t, json.Unmarshal([]byte(out), &synced))
	if len(synced) != 1 || synced[0].State != "ok" || len(synced[0].Pushed) != 1 || !synced[0].Pushed[0].Base {
		t.Fatalf("sync: %s", out)
	}
	stamp := synced[0].Pushed[0].Stamp
	vault := filepath.Join(home, "vault")
	t.Run("nothing in the clear", func(t *testing.T) { noClearText(t, vault) })
	t.Run("stock tools verify it", func(t *testing.T) { stockTools(t, vault, stamp) })
	snapshot := filepath.Join(dir, "backups/snapshots", stamp)
	t.Run("recover.py gets it back", func(t *testing.T) { recoverScript(t, vault, stamp, identity, snapshot) })
	t.Run("the vault's own commands", func(t *testing.T) {
		command(t, 0, "vault", "verify")
		command(t, 0, "vault", "restore", "latest", "--dir", vault, "--identity", identity, "--to",
			filepath.Join(dir, "fetched"))
		output(t, dir, "diff", "-r", snapshot, "fetched")
	})

	must(t, os.RemoveAll(filepath.Join(dir, "live")))
	for _, sub := range []string{"live/db", "live/config", "live/chroma"} {
		must(t, os.MkdirAll(filepath.Join(dir, sub), 0o755))
	}
	out = command(t, 0, "restore", stamp, "--from", "laptop", "--identity", identity, "--confirm-service-stopped",
		"--json")
	if !strings.Contains(out, `"restored_integrity_ok": true`) {
		t.Fatalf("restore: %s", out)
	}
	output(t, dir, "cmp", filepath.Join(snapshot, "db/atocore.db"), "live/db/atocore.db")
	output(t, dir, "diff", "-r", filepath.Join(snapshot, "chroma"), "live/chroma")

	// The laptop falls asleep: that is no failure, only later.
	sshd.StopListening()
	sshd.DropSessions()
	if out := command(t, 75, "sync", "--json"); !strings.Contains(out, `"state": "unreachable"`) {
		t.Fatalf("sync to a laptop that sleeps: %s", out)
	}
}

// command runs atobackupd in this process and wants an exit status.
func command(t *testing.T, want int, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if got := run(args, &stdout, &stderr); got != want {
		t.Fatalf("atobackupd %s: exit status %d, not %d\n%s%s", strings.Join(args, " "), got, want, &stdout, &stderr)
	}
	return stdout.String()
}

// noClearText looks for what the database and the registry are full of.
func noClearText(t *testing.T, vault string) {
	err := filepath.WalkDir(vault, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		for _, word := range []string{"canary 1", "SQLite format 3", "p05-interferometer", "embeddings_queue"} {
			if bytes.Contains(data, []byte(word)) {
				t.Errorf("%s holds %q in the clear", path, word)
			}
		}
		return err
	})
	must(t, err)
}

// stockTools verifies a snapshot as the laptop's owner can, with no key.
func stockTools(t *testing.T, vault, stamp string) {
	sums, err := filepath.Glob(filepath.Join(vault, "snapshots", stamp+"-*.SHA256SUMS"))
	if err != nil || len(sums) != 1 {
		t.Fatalf("%v %v", sums, err)
	}
	output(t, vault, "sha256sum", "--strict", "-c", sums[0])
	var info struct {
		Signer string `json:"signer"`
	}
	data, err := os.ReadFile(filepath.Join(vault, "vault.json"))
	must(t, err)
	must(t, json.Unmarshal(data, &info))
	allowed := filepath.Join(t.TempDir(), "allowed_signers")
	must(t, os.WriteFile(allowed, []byte("atobackupd "+info.Signer+"\n"), 0o600))
	verify := exec.Command("ssh-keygen", "-Y", "verify", "-f", allowed, "-I", "atobackupd", "-n", "atobackup-vault",
		"-s", sums[0]+".sig")
	verify.Stdin, err = os.Open(sums[0])
	must(t, err)
	if out, err := verify.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("Good")) {
		t.Fatalf("%v\n%s", err, out)
	}
}

// recoverScript gets the snapshot back with nothing but Python, age and zstd.
func recoverScript(t *testing.T, vault, stamp, identity, snapshot string) {
	bin := t.TempDir()
	for _, name := range []string{"age", "zstd", "ssh-keygen"} {
		path, err := exec.LookPath(name)
		must(t, err)
		must(t, os.Symlink(path, filepath.Join(bin, name)))
	}
	// The interpreter itself: what is called python3 may be a script that looks for it.
	python := strings.TrimSpace(output(t, bin, "python3", "-c", "import sys; print(sys.executable)"))
	dest := filepath.Join(t.TempDir(), "recovered")
	cmd := exec.Command(python, filepath.Join(vault, "recover.py"), stamp, "--identity", identity, "--to", dest)
	cmd.Env = []string{"PATH=" + bin}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("recover.py: %v\n%s", err, out)
	}
	output(t, dest, "diff", "-r", snapshot, dest)
}

// makeMemories makes a WAL database whose words would be seen in the clear.
func makeMemories(t *testing.T, path string, rows int) {
	t.Helper()
	db, err := openForTest(path)
	must(t, err)
	defer db.Close()
	_, err = db.Exec(`create table memories (id integer primary key, content text);
		with recursive n(i) as (select 1 union all select i + 1 from n where i < ?)
		insert into memories select i, 'canary ' || i || hex(randomblob(60)) from n`, rows)
	must(t, err)
}

func output(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	must(t, err)
	return abs
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
