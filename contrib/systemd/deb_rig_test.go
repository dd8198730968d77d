//go:build rig

package systemd_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRigDeb lives through a package's life in a booted Debian: installed,
// configured, started, upgraded under way, removed, installed again, purged.
// What an operator has made survives all of it; what he could not get back
// survives also the purge.
func TestRigDeb(t *testing.T) {
	g := bareGuest(t)
	root := filepath.Join(g.run, "upper/root")
	if err := os.MkdirAll(root, 0o755); err != nil { // upper is the guest's own "/"
		t.Fatal(err)
	}
	for _, version := range []string{"0.1.0", "0.1.1"} {
		buildDeb(t, version, root)
	}
	g.up()
	g.sh("useradd -u 1000 -U ato && install -d -o ato -g ato -m 0750 /srv/storage/atocore/data " +
		"/srv/storage/atocore/data/db && " +
		"setpriv --reuid 1000 --regid 1000 --clear-groups sqlite3 /srv/storage/atocore/data/db/atocore.db 'PRAGMA " +
		"journal_mode=wal; CREATE TABLE memories (x); INSERT INTO memories VALUES (1)'")

	t.Run("install", g.debInstall)
	t.Run("configure and start", g.debStart)
	before := g.debState()
	t.Run("upgrade", func(t *testing.T) { g.debUpgrade(t, before) })
	t.Run("remove and install again", func(t *testing.T) { g.debRemove(t, before) })
	t.Run("purge", g.debPurge)
}

// buildDeb makes the package for this machine in a directory.
func buildDeb(t *testing.T, version, dir string) {
	t.Helper()
	dist := t.TempDir()
	arch := strings.TrimSpace(output(t, "go", "env", "GOHOSTARCH"))
	nfpm := output(t, "make", "-s", "-C", "../..", "--no-print-directory", "print-nfpm")
	t.Setenv("ARCHS", arch)
	t.Setenv("MAINTAINER", "Test <test@localhost>")
	output(t, "../../packaging/dist.sh", version, dist)
	output(t, "../../packaging/deb.sh", version, dist, strings.TrimSpace(nfpm))
	output(t, "cp", filepath.Join(dist, "atobackupd_"+version+"_"+arch+".deb"), filepath.Join(dir, version+".deb"))
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, &complaints)
	}
	return string(out)
}

// debState is what must survive: the configuration, the keys, the backups.
func (g *guest) debState() string {
	return g.sh("cd / && sha256sum etc/atobackupd/* var/lib/atobackupd/signing_key $(find " +
		"srv/storage/atocore/backups/snapshots -type f | sort) && stat -c '%U:%G %a %n' etc/atobackupd " +
		"etc/atobackupd/* var/lib/atobackupd srv/storage/atocore/backups")
}

func (g *guest) want(out string, words ...string) {
	g.t.Helper()
	for _, word := range words {
		if !strings.Contains(out, word) {
			g.t.Errorf("no %q", word)
		}
	}
}

// An installation starts nothing and says what is next.
func (g *guest) debInstall(t *testing.T) {
	g.t = t
	g.want(g.sh("dpkg -i /root/0.1.0.deb 2>&1"), "not configured yet: run atobackupd init")
	out := g.sh("dpkg -V atobackupd; atobackupd version; id atobackupd; stat -c '%U:%G %a %n' /etc/atobackupd " +
		"/var/lib/atobackupd /srv/storage/atocore/backups; " +
		"systemctl is-enabled atobackupd; systemctl is-active atobackupd; ls -A /etc/atobackupd; " +
		"dpkg-deb -c /root/0.1.0.deb | awk '$6 ~ /\\/$/ && $1 != \"drwxr-xr-x\" || $2 != \"root/root\" { print " +
		"\"odd:\", $0 }'")
	if strings.Contains(out, "odd:") {
		t.Error("others own the package's directories, or may not enter them")
	}
	g.want(out, "atobackupd 0.1.0 (", "uid=", "root:atobackupd 750 /etc/atobackupd",
		"atobackupd:atobackupd 700 /var/lib/atobackupd", "disabled", "inactive")
	if out := g.sh("systemd-analyze verify --man=no atobackupd.service atobackupd-restore@latest.service 2>&1"); out != "" {
		t.Errorf("systemd-analyze verify: %s", out)
	}
	g.sh("ls /usr/share/man/man1/atobackupd.1.gz /usr/share/man/man5/atobackupd.toml.5.gz " +
		"/usr/share/bash-completion/completions/atobackupd " +
		"/usr/share/zsh/vendor-completions/_atobackupd /usr/share/fish/vendor_completions.d/atobackupd.fish " +
		"/usr/share/atobackupd/prometheus/atobackupd.rules.yml " +
		"/usr/share/doc/atobackupd/examples/config.example.toml /usr/share/doc/atobackupd/copyright")
}

func (g *guest) debStart(t *testing.T) {
	g.t = t
	g.sh("HOME=/root atobackupd init | tail -n 8")
	g.sh("systemctl enable --now atobackupd 2>&1")
	g.sh("atobackupd backup && atobackupd list")
	g.sh("echo '# by the operator' >> /etc/atobackupd/config.toml && echo mine > /etc/atobackupd/notes")
}

// An upgrade restarts the service and touches nothing that an operator made.
func (g *guest) debUpgrade(t *testing.T, before string) {
	g.t = t
	old := g.sh("systemctl show -p MainPID --value atobackupd")
	g.sh("dpkg -i /root/0.1.1.deb 2>&1")
	g.await("the new one runs", "systemctl -q is-active atobackupd && test $(systemctl show -p MainPID --value "+
		"atobackupd) != "+old, 90*time.Second)
	g.want(g.sh("atobackupd version; readlink /proc/$(systemctl show -p MainPID --value atobackupd)/exe; atobackupd "+
		"list"), "atobackupd 0.1.1 (", "/usr/bin/atobackupd", "1 snapshot,")
	if after := g.debState(); after != before {
		t.Errorf("the upgrade changed\n%s\nto\n%s", before, after)
	}
}

// A removal stops the service and keeps what it made; installed again, it goes on.
func (g *guest) debRemove(t *testing.T, before string) {
	g.t = t
	g.sh("dpkg -r atobackupd 2>&1")
	g.want(g.sh("systemctl is-active atobackupd; pgrep -c atobackupd; ls /usr/bin/atobackupd 2>&1; systemctl "+
		"--failed --no-legend --plain"), "inactive", "No such file")
	if after := g.debState(); after != before {
		t.Errorf("the removal changed\n%s\nto\n%s", before, after)
	}
	g.sh("dpkg -i /root/0.1.1.deb 2>&1")
	g.await("it goes on", "systemctl -q is-enabled atobackupd && systemctl -q is-active atobackupd", 90*time.Second)
	if after := g.debState(); after != before {
		t.Errorf("the second installation changed\n%s\nto\n%s", before, after)
	}
}

// A purge says what it leaves: the backups, the signing key, and what is not its.
func (g *guest) debPurge(t *testing.T) {
	g.t = t
	kept := "cd / && sha256sum var/lib/atobackupd/signing_key etc/atobackupd/notes $(find " +
		"srv/storage/atocore/backups/snapshots -type f | sort)"
	before := g.sh(kept)
	g.want(g.sh("dpkg -P atobackupd 2>&1"), "Kept", "/srv/storage/atocore/backups", "/var/lib/atobackupd/signing_key",
		"what else is in /etc/atobackupd")
	if after := g.sh(kept); after != before {
		t.Errorf("the purge changed\n%s\nto\n%s", before, after)
	}
	g.want(g.sh("ls -A /etc/atobackupd /var/lib/atobackupd; ls "+
		"/etc/systemd/system/multi-user.target.wants/atobackupd.service 2>&1; dpkg -l atobackupd 2>&1; systemctl "+
		"--failed --no-legend --plain"),
		"/etc/atobackupd:\nnotes\n", "/var/lib/atobackupd:\nrecovery-sheet.txt\nsigning_key", "No such file",
		"no packages found")
}
