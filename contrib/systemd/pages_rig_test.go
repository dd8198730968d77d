//go:build rig

package systemd_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What of the pages' blocks is not run in the guest, as a part of the line, and why.
var notHere = map[string]string{
	"127.0.0.1:8100/stats":       "AtoCore's own, as the next three; the tests on its deployment have it",
	"127.0.0.1:8100/projects":    "",
	"127.0.0.1:8100/memory":      "",
	"atobackupd drill --live":    "it posts a memory",
	"sudo apt install age zstd":  "no network; recover.py is run where they are",
	"/mnt/stick/atocore.tar.zst": "no stick",
	"age -d -i key.txt atocore.": "",
	"python3 -I recover.py":      "no Python in the guest: TestRigFirstHour runs it on this machine",
	"PUSH=20":                    "a push that exists is set instead",
}

const fromLaptop = "sudo atobackupd restore latest --from laptop --identity key.txt --confirm-service-stopped"

// What is typed otherwise than it stands, and why.
var otherwise = map[string]string{
	// It says that AtoCore is in the way.
	"sudo atobackupd restore $STAMP --dry-run": "sudo atobackupd restore $STAMP --dry-run || test $? = 4",
	// The cheat sheet is no sequence: AtoCore runs again here.
	fromLaptop: "cd; docker compose down; " + fromLaptop + "; docker compose up -d",
}

// aStamp is a stamp that a page shows; it stands for one that exists.
var aStamp = regexp.MustCompile(`\b20\d{6}T\d{6}Z\b`)

// readOn runs the blocks of further pages, each as one script, in the guest of the first
// hour. systemd stands in for Docker, by a program of its name.
func (h *hour) readOn(t *testing.T) {
	h.t = t
	h.bring("curl", "jq")
	h.write("/usr/local/bin/sudo", `#!/bin/sh
[ "$1" != -u ] || { u=$2; shift 2; exec runuser -u "$u" -- "$@"; }
exec "$@"
`)
	h.write("/usr/local/bin/docker", `#!/bin/sh
case "$1 $2" in
"compose down") systemctl stop atocore ;;
"compose up") systemctl start atocore ;;
"compose ps") systemctl is-active atocore || true ;;
*) exit 1 ;;
esac
`)
	h.sh(`chmod +x /usr/local/bin/sudo /usr/local/bin/docker && mkdir -p /srv/storage/atocore/app/deploy/dalidou &&
		sed -i -e 's/^#* *stop_command = .*/stop_command = ["systemctl", "stop", "atocore"]/' \
			-e 's/^#* *start_command = .*/start_command = ["systemctl", "start", "atocore"]/' \
			/etc/atobackupd/config.toml &&
		atobackupd config check && systemctl reload atobackupd`)
	left, changed := []string{}, []string{}
	for _, page := range []string{"runbook", "recipes", "recover-without-atobackupd", "configuration"} {
		text, err := os.ReadFile("../../docs/" + page + ".md")
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(page, "recover") {
			h.sh("systemctl stop atocore") // the machine is new
		}
		for _, m := range shBlock.FindAllStringSubmatch(string(text), -1) {
			if page == "recipes" && !strings.Contains(m[1], "diff latest") {
				continue // other people's disks and storage
			}
			h.block(page, h.script(m[1], &left, &changed))
		}
	}
	for part := range notHere {
		if !slices.Contains(left, part) {
			t.Errorf("no page has %q any more", part)
		}
	}
	for line := range otherwise {
		if !slices.Contains(changed, line) {
			t.Errorf("no page has %q any more", line)
		}
	}
}

// script is a block as it is run here.
func (h *hour) script(block string, left, changed *[]string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.ReplaceAll(block, "\\\n", " ")) {
		line = strings.TrimSpace(remark.ReplaceAllString(strings.TrimRight(line, "\n"), ""))
		skip := false
		for part := range notHere {
			if strings.Contains(line, part) {
				*left, skip = append(*left, part), true
			}
		}
		if other, ok := otherwise[line]; ok {
			*changed, line = append(*changed, line), other
		}
		if !skip && line != "" {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

// block runs one, with the newest snapshot for every stamp that it shows.
func (h *hour) block(page, script string) {
	h.t.Helper()
	if script == "" {
		return
	}
	stamps := strings.Fields(h.sh(`atobackupd list --json | jq -r '[.backups[] | select(.valid)] |
		([.[] | select(.kind != "pre-restore") | select(.offsite | length > 0)][0].stamp),
		([.[] | select(.kind == "pre-restore")][-1].stamp)'`))
	script = aStamp.ReplaceAllString(script, stamps[0])
	signer := h.sh("cut -d' ' -f1,2 /var/lib/atobackupd/signing_key.pub")
	script = strings.ReplaceAll(script, "ssh-ed25519 AAAA…", signer)
	if strings.Contains(script, "$PUSH") {
		script = "cd /home/atobackup/vault\n" + script
	}
	cmd := exec.Command(filepath.Join(h.rig, "guest-sh.sh"), h.run, "/usr/bin/env", "HOME=/root",
		"PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "STAMP="+stamps[0],
		"PRE_RESTORE_SNAPSHOT="+stamps[1],
		"PUSH="+h.sh("ls /home/atobackup/vault/snapshots | sed -n 's/.json$//p' | tail -1"), "/bin/bash",
		"-ec", "cd\n"+script)
	out, err := cmd.CombinedOutput()
	h.t.Logf("%s:\n%s\n%s", page, script, out)
	if err != nil {
		h.t.Errorf("docs/%s.md: %v:\n%s", page, err, script)
	}
}

// bring copies programs of this machine into the guest, with the libraries that they
// need and that are not there.
func (h *hour) bring(programs ...string) {
	h.t.Helper()
	for _, name := range programs {
		path, err := exec.LookPath(name)
		if err != nil {
			h.t.Fatal(err)
		}
		files := []string{path}
		for _, word := range strings.Fields(output(h.t, "ldd", path)) {
			if strings.HasPrefix(word, "/") {
				files = append(files, word)
			}
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				h.t.Fatal(err)
			}
			if _, err := h.try("test -e " + file); err != nil {
				h.write(file, string(data))
				h.sh("chmod 755 " + file)
			}
		}
	}
}
