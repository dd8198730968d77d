//go:build rig

package systemd_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// hour is a stranger's first hour: the commands of the pages, typed in a guest one
// after the other.
type hour struct {
	*guest
	commands, answers int
	began             time.Time
	transcript        strings.Builder
}

// TestRigFirstHour follows README.md and docs/laptop.md in a fresh Debian, from the
// package to a restored store: each line of the README's blocks is typed as it
// stands, but for those that `instead` lists with the reason. A second account of the guest
// is the laptop, set up by the script that init prints.
func TestRigFirstHour(t *testing.T) {
	h := &hour{guest: bareGuest(t)}
	arch := strings.TrimSpace(output(t, "go", "env", "GOHOSTARCH"))
	h.lay(arch)
	h.up()
	h.sh("systemctl unmask ssh 2>&1; systemctl start ssh atocore && echo 127.0.0.1 laptop.local >>/etc/hosts")
	h.await("AtoCore answers", "ss -ltn | grep -q 127.0.0.1:8100 ", 10*time.Second)

	instead := map[string]string{
		"make deb": "", // built here: the guest has no Go
		"sudo apt install ./dist/atobackupd_*_amd64.deb": "sudo apt install ./dist/atobackupd_*_" + arch + ".deb",
		"sudo atobackupd init --host laptop.local":       "sudo atobackupd init --host laptop.local --yes --drawer-key",
		// It says that AtoCore is in the way.
		"sudo atobackupd restore latest --dry-run": "sudo atobackupd restore latest --dry-run || test $? = 4",
		// The guest has no Docker: systemd runs AtoCore.
		"cd /srv/storage/atocore/app/deploy/dalidou && docker compose down": "systemctl stop atocore",
		"docker compose up -d": "systemctl start atocore",
		"sudo python3 -I recover.py latest --identity key.txt --to ~/restored": "", // typed on this machine, below
	}
	install := lines(t, "README.md", "## Install it", instead)
	back := lines(t, "README.md", "## Get it back", instead)
	laptop := lines(t, "docs/laptop.md", "### The script", map[string]string{
		// The guest is both machines.
		"scp root@dalidou:/usr/bin/atobackupd root@dalidou:atobackupd-second-machine-laptop.sh /tmp/": "cp " +
			"/usr/bin/atobackupd /root/atobackupd-second-machine-laptop.sh /tmp/",
	})
	const look = "systemctl status atobackup-vault-prune.service atobackup-vault-verify.service"
	timers := lines(t, "docs/laptop.md", "### Verify and prune on a timer", map[string]string{
		look: look + " || test $? = 3", // 3 is systemctl's word for units that have ended
	})

	h.began = time.Now()
	drawer := ""
	for _, line := range install {
		out := h.typed(line, "yes")
		if strings.Contains(line, " init ") {
			drawer = regexp.MustCompile(`AGE-SECRET-KEY-1[A-Z0-9]+`).FindString(out)
			h.typed("mv atobackupd-identity-*.txt key.txt", "")
			for _, line := range laptop {
				h.typed(line, "")
			}
		}
	}
	for _, line := range timers {
		h.typed(line, "")
	}
	h.write("/root/drawer.txt", drawer+"\n")
	h.laptopHolds()

	t.Log("somebody deletes the memories of a year")
	before := h.sh(memories)
	h.sh(sql + `"DELETE FROM memories WHERE content = 'old'"`)
	for _, line := range back {
		switch {
		case strings.Contains(line, " --from "):
			if after := h.sh(memories); after != before {
				t.Errorf("%s memories are back of %s", after, before)
			}
			h.typed("systemctl stop atocore", "") // the host is lost: nothing runs there
		case strings.Contains(line, "vault restore"):
			line = strings.Replace(line, "key.txt", "drawer.txt", 1) // the key of the drawer opens them, too
		}
		h.typed(line, "")
	}
	h.recovered()
	h.sh("systemctl start atocore")
	if h.commands > 40 || h.answers >= 15 {
		t.Errorf("%d commands and %d answers", h.commands, h.answers)
	}
	t.Logf("the first hour: %d commands, %d answers, %s\n%s", h.commands, h.answers,
		time.Since(h.began).Round(time.Second), &h.transcript)
	t.Run("runbook", func(t *testing.T) { h.readOn(t) })
}

const sql = `sqlite3 -cmd '.timeout 9000' /srv/storage/atocore/data/db/atocore.db `

const memories = sql + `"SELECT count(*) FROM memories WHERE content = 'old'"`

// lay puts the package into the guest, and an AtoCore that answers, writes and has a
// registry and a real Chroma directory.
func (h *hour) lay(arch string) {
	h.t.Helper()
	upper := func(path string) string { return filepath.Join(h.run, "upper", path) }
	root := "/srv/storage/atocore"
	for _, dir := range []string{"root/dist", root + "/data/db", root + "/data/chroma", root + "/config", "usr/bin",
		"etc/systemd/system", "etc/sysusers.d"} {
		if err := os.MkdirAll(upper(dir), 0o755); err != nil {
			h.t.Fatal(err)
		}
	}
	buildDeb(h.t, "0.2.0", upper("root/dist"))
	if err := os.Rename(upper("root/dist/0.2.0.deb"), upper("root/dist/atobackupd_0.2.0_"+arch+".deb")); err != nil {
		h.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		h.t.Fatal(err)
	}
	output(h.t, "cp", self, upper("usr/bin/atoprobe"))
	output(h.t, "tar", "-xzf", "../../cmd/demo/chroma.tar.gz", "--strip-components=1",
		"-C", upper(root+"/data/chroma"))
	output(h.t, "sqlite3", upper(root+"/data/db/atocore.db"), `PRAGMA journal_mode=wal;
		CREATE TABLE memories (content, y);
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 4000)
		INSERT INTO memories SELECT 'old', randomblob(500) FROM n`)
	for path, text := range map[string]string{
		root + "/config/project-registry.json": `{"projects": [{"id": "atocore"}]}`,
		"etc/systemd/system/atocore.service": `[Service]
User=ato
ExecStart=/bin/sh -c 'atoprobe health & while echo "INSERT INTO memories VALUES (1, 2);"; do sleep 0.1; done | ` +
			`exec sqlite3 -cmd ".timeout 9000" ` + root + `/data/db/atocore.db'
`,
		"etc/sysusers.d/atocore.conf": "u ato 1000\n",
	} {
		if err := os.WriteFile(upper(path), []byte(text), 0o644); err != nil {
			h.t.Fatal(err)
		}
	}
	output(h.t, "chown", "-R", "1000:1000", upper(root+"/data"), upper(root+"/config"))
}

var (
	heading = regexp.MustCompile(`(?m)^##+ \S`)
	shBlock = regexp.MustCompile("(?ms)^ *```sh\n(.*?)^ *```$")
	remark  = regexp.MustCompile(` {2,}#.*$`)
)

// lines are the commands of a section of a page, in order. A block that is a script or a
// file is none. Those of instead are replaced, or left out, and must be there.
func lines(t *testing.T, page, section string, instead map[string]string) (found []string) {
	t.Helper()
	text, err := os.ReadFile("../../" + page)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "\n"+section+"\n")
	if !ok {
		t.Fatalf("%s has no section %s", page, section)
	}
	if end := heading.FindStringIndex(rest); end != nil {
		rest = rest[:end[0]]
	}
	for _, m := range shBlock.FindAllStringSubmatch(rest, -1) {
		if strings.HasPrefix(m[1], "#!") {
			continue
		}
		for line := range strings.Lines(m[1]) {
			line = strings.TrimSpace(remark.ReplaceAllString(strings.TrimRight(line, "\n"), ""))
			if other, ok := instead[line]; ok {
				line = other
			}
			if line != "" {
				found = append(found, line)
			}
		}
	}
	if len(found) == 0 {
		t.Fatalf("%s shows no command in %s", page, section)
	}
	return found
}

// typed runs a line as root types it after a login, and answers what it asks.
func (h *hour) typed(line, answer string) string {
	h.t.Helper()
	// The guest has no sudo.
	const shell = `cd; sudo() { if [ "$1" = -u ]; then u=$2; shift 2; runuser -u "$u" -- "$@"; else "$@"; fi; }; `
	cmd := exec.Command(filepath.Join(h.rig, "guest-sh.sh"), h.run, "/usr/bin/env", "HOME=/root", "/bin/sh", "-c",
		shell+line)
	cmd.Stdin = strings.NewReader(answer + "\n")
	began := time.Now()
	out, err := cmd.CombinedOutput()
	h.commands++
	if strings.Contains(string(out), "Type yes: ") {
		h.answers++
	}
	h.t.Logf("# %s\n%s", line, out)
	fmt.Fprintf(&h.transcript, "%6.1fs  %s\n", time.Since(began).Seconds(), line)
	if err != nil {
		h.t.Fatalf("%s: %v", line, err)
	}
	return string(out)
}

// laptopHolds checks what the laptop has after its timers' first run: a vault that
// verifies, whose account can remove nothing, and which no key of this host opens.
func (h *hour) laptopHolds() {
	h.t.Helper()
	out := h.sh("systemctl show -P Result atobackup-vault-verify atobackup-vault-prune; " +
		"systemctl is-active atobackup-vault-verify.timer atobackup-vault-prune.timer; " +
		"runuser -u atobackup -- atobackupd vault verify --dir /home/atobackup/vault; " +
		"ls /home/atobackup/vault/snapshots | grep -c '\\.sig$'")
	h.want(out, "success\n\nsuccess", "active\nactive", "  valid  read ", "\n1")
	h.sh("echo 'rm /home/atobackup/vault/vault.json' | sftp -b - -i /etc/atobackupd/id_ed25519 " +
		"-o UserKnownHostsFile=/etc/atobackupd/known_hosts atobackup@laptop.local && exit 1 || " +
		"test -e /home/atobackup/vault/vault.json")
}

// recovered compares what the laptop gave back, by this program and by recover.py with
// stock tools on this machine, with what the store holds now.
func (h *hour) recovered() {
	h.t.Helper()
	h.sh("test $(sqlite3 ~root/restored/db/atocore.db \"SELECT count(*) FROM memories WHERE content = 'old'\") = " +
		"4000 && " +
		"diff -r ~root/restored/chroma /srv/storage/atocore/data/chroma")
	vault := filepath.Join(h.run, "upper/home/atobackup/vault")
	to := filepath.Join(h.t.TempDir(), "restored")
	cmd := exec.Command("python3", "-I", "recover.py", "latest",
		"--identity", filepath.Join(h.run, "upper/root/key.txt"), "--to", to)
	cmd.Dir = vault
	out, err := cmd.CombinedOutput()
	h.t.Logf("recover.py: %s", out)
	if err != nil {
		h.t.Fatal(err)
	}
	output(h.t, "diff", "-r", to, filepath.Join(h.run, "upper/root/restored"))
}
