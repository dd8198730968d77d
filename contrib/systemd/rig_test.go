//go:build rig

package systemd_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"maps"
)

// These tests run the packaged unit under a real systemd as PID 1, in a
// container without a container engine:
//
//	go test -tags rig -v ./contrib/systemd
//
// They need root, systemd-container, debootstrap and util-linux, and the rig's
// scripts in $ATOBACKUPD_SHARED/rig, by default in ../shared beside this
// repository. $ATOBACKUPD_GUEST_ROOT keeps the guest's tree from run to run.

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "atoprobe" || filepath.Base(os.Args[0]) == "program" {
		os.Exit(probe(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// guest is a booted system with the packages' files in it.
type guest struct {
	t         *testing.T
	rig, root string
	run       string
}

const config = `
[atocore]
db_path = "/srv/storage/atocore/data/db/atocore.db"
[backup]
dir = "/srv/storage/atocore/backups"
min_free = "1MiB"
[schedule]
daily = "%s"
scrub = ""
verify = ""
drill = ""
[alarms]
prune = "off"
[notify]
urls_file = "/etc/atobackupd/notify-urls.txt"
[http]
listen = ""
`

func newGuest(t *testing.T) *guest {
	t.Helper()
	g := bareGuest(t)
	g.install()
	g.up()
	return g
}

// bareGuest is a guest that has nothing of ours in it and is not booted yet.
func bareGuest(t *testing.T) *guest {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("a systemd as PID 1 needs root")
	}
	for program, pkg := range map[string]string{"systemd-nspawn": "systemd-container", "debootstrap": "debootstrap",
		"nsenter": "util-linux"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%v: apt install %s", err, pkg)
		}
	}
	shared := os.Getenv("ATOBACKUPD_SHARED")
	if shared == "" {
		shared = "../../../shared"
	}
	g := &guest{t: t, rig: filepath.Join(shared, "rig"), root: os.Getenv("ATOBACKUPD_GUEST_ROOT")}
	if _, err := os.Stat(filepath.Join(g.rig, "guest-up.sh")); err != nil {
		t.Fatalf("%v: set ATOBACKUPD_SHARED to the directory that holds rig/", err)
	}
	if g.root == "" {
		g.root = filepath.Join(os.TempDir(), "guest-root")
	}
	g.host(filepath.Join(g.rig, "rootfs.sh"), g.root)
	var err error
	if g.run, err = os.MkdirTemp("", "atobackupd-guest-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(g.run) })
	t.Cleanup(func() { exec.Command(filepath.Join(g.rig, "guest-down.sh"), g.run, "cut").Run() })
	return g
}

// install puts files where the packages would, before the first boot.
func (g *guest) install() {
	g.t.Helper()
	upper := filepath.Join(g.run, "upper")
	place := func(to string, mode os.FileMode, data []byte) {
		g.t.Helper()
		to = filepath.Join(upper, to)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			g.t.Fatal(err)
		}
		if err := os.WriteFile(to, data, mode); err != nil {
			g.t.Fatal(err)
		}
	}
	file := func(from string) []byte {
		g.t.Helper()
		data, err := os.ReadFile(from)
		if err != nil {
			g.t.Fatal(err)
		}
		return data
	}
	binary := filepath.Join(g.t.TempDir(), "atobackupd")
	build := exec.Command("go", "build", "-o", binary, "../../cmd/atobackupd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		g.t.Fatalf("%v\n%s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		g.t.Fatal(err)
	}
	place("usr/bin/atobackupd", 0o755, file(binary))
	place("usr/bin/atoprobe", 0o755, file(self))
	place("srv/open/program", 0o755, file(self))
	for _, unit := range []string{"atobackupd.service", "atobackupd-restore@.service"} {
		place("usr/lib/systemd/system/"+unit, 0o644, file(unit))
	}
	place("usr/lib/sysusers.d/atobackupd.conf", 0o644, file("sysusers.d/atobackupd.conf"))
	place("usr/lib/tmpfiles.d/atobackupd.conf", 0o644, file("tmpfiles.d/atobackupd.conf"))
	place("etc/sysusers.d/atocore.conf", 0o644, []byte("u ato 1000\n"))
	place("etc/atobackupd/config.toml", 0o644, fmt.Appendf(nil, config, "0 6 * * *"))
	place("etc/atobackupd/notify-urls.txt", 0o600, []byte("generic://127.0.0.1:9099/?disabletls=yes\n"))
	for _, secret := range []string{"etc/ssh/ssh_host_test_key", "root/secret", "home/someone/secret",
		"var/log/secret"} {
		place(secret, 0o600, []byte("secret"))
	}
	place("usr/lib/systemd/system/docker.socket", 0o644,
		[]byte("[Socket]\nListenStream=/run/docker.sock\nSocketMode=0666\nAccept=yes\n"))
	place("usr/lib/systemd/system/docker@.service", 0o644, []byte("[Service]\nExecStart=/bin/true\n"))
	place("etc/systemd/system/sink.service", 0o644, []byte("[Service]\nExecStart=/usr/bin/atoprobe sink\n"))
	if err := os.Chmod(filepath.Join(upper, "srv/open"), 0o777); err != nil {
		g.t.Fatal(err)
	}
}

// host runs a command on this machine.
func (g *guest) host(name string, args ...string) string {
	g.t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		g.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (g *guest) up() {
	g.t.Helper()
	g.t.Logf("boot: %s", g.host(filepath.Join(g.rig, "guest-up.sh"), g.root, g.run))
}

func (g *guest) down(how ...string) {
	g.t.Helper()
	g.host(filepath.Join(g.rig, "guest-down.sh"), append([]string{g.run}, how...)...)
}

// try runs a line of shell in the guest and returns what it wrote.
func (g *guest) try(line string) (string, error) {
	cmd := exec.Command(filepath.Join(g.rig, "guest-sh.sh"), g.run, "/bin/sh", "-c", line)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return strings.TrimSpace(out.String()), err
}

// sh is try for a line that must succeed; it is in the transcript.
func (g *guest) sh(line string) string {
	g.t.Helper()
	out, err := g.try(line)
	g.t.Logf("# %s\n%s", line, out)
	if err != nil {
		g.t.Fatalf("%s: %v", line, err)
	}
	return out
}

// await tries a line until it succeeds.
func (g *guest) await(what, line string, patience time.Duration) {
	g.t.Helper()
	var out string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		var err error
		if out, err = g.try(line); err == nil {
			g.t.Logf("%s", what)
			return
		}
	}
	journal, _ := g.try("journalctl -u atobackupd -n 40 --no-pager -o cat; systemctl status atobackupd | head -20")
	g.t.Fatalf("%s: not within %s: %s\n%s\n%s", what, patience, line, out, journal)
}

func (g *guest) write(path, text string) {
	g.t.Helper()
	cmd := exec.Command(filepath.Join(g.rig, "guest-sh.sh"), g.run, "/usr/bin/tee", path)
	cmd.Stdin, cmd.Stdout = strings.NewReader(text), io.Discard
	if err := cmd.Run(); err != nil {
		g.t.Fatal(err)
	}
}

// status is the service's own judgement.
func (g *guest) status() (s struct {
	Level  string
	Alarms []struct{ Leg, Message string }
}) {
	g.t.Helper()
	out, _ := g.try("atobackupd status --json 2>/dev/null") // its exit status is the level
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		g.t.Fatalf("%v: %s", err, out)
	}
	return s
}

// The daemon's life under systemd, from the first start to the last reboot.
func TestRigLife(t *testing.T) {
	g := newGuest(t)
	g.sh(`install -d -o ato -g ato -m 0750 /srv/storage/atocore/data /srv/storage/atocore/data/db &&
		setpriv --reuid 1000 --regid 1000 --clear-groups sqlite3 /srv/storage/atocore/data/db/atocore.db "PRAGMA journal_mode=wal; CREATE TABLE memories (x);
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 300000) INSERT INTO memories SELECT randomblob(1000) FROM n" &&
		ls -l /srv/storage/atocore/data/db && stat -c '%U:%G %a %n' /etc/atobackupd /var/lib/atobackupd /srv/storage/atocore/backups`)
	g.sh("systemctl start sink && systemd-analyze security atobackupd.service | tail -n 1")

	t.Run("start", g.start)
	t.Run("sandbox", g.sandbox)
	t.Run("reload", g.reload)
	t.Run("watchdog", g.watchdog)
	t.Run("stop in a take", g.stopInTake)
	t.Run("reboot in a take", g.rebootInTake)
	t.Run("restore", g.restore)
}

func (g *guest) start(t *testing.T) {
	g.t = t
	g.sh("systemctl enable --now atobackupd")
	out := g.sh("systemctl show -p Type,ActiveState,SubState,StatusText,WatchdogUSec,User atobackupd")
	for _, want := range []string{"Type=notify", "ActiveState=active", "StatusText=next: daily at", "User=atobackupd"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q", want)
		}
	}
	g.sh("atobackupd config check")
	g.sh("journalctl -u atobackupd -o cat --no-pager | tail -n 5; stat -c '%U:%G %a %n' /var/lib/atobackupd/*")
}

// sandbox proves for each refusal that it is the sandbox that refuses: the same
// user with the same capability may do it outside.
func (g *guest) sandbox(t *testing.T) {
	g.t = t
	text, err := os.ReadFile("atobackupd.service")
	if err != nil {
		t.Fatal(err)
	}
	var unit strings.Builder
	for line := range strings.Lines(string(text)) {
		key, _, _ := strings.Cut(line, "=")
		if !slices.Contains([]string{"Type", "ExecStart", "ExecReload", "ExecStopPost", "Restart", "RestartSec",
			"WatchdogSec"}, key) {
			unit.WriteString(line)
		}
		if strings.HasPrefix(line, "[Service]") {
			unit.WriteString("Type=oneshot\nExecStart=/usr/bin/atoprobe %i\n")
		}
	}
	g.write("/run/systemd/system/probe@.service", unit.String())
	g.sh("systemctl daemon-reload && systemctl start docker.socket && echo secret | tee /tmp/secret >/dev/marker && " +
		"chmod 644 /tmp/secret /dev/marker")
	control := "systemd-run --quiet --wait --pipe -p User=atobackupd -p SupplementaryGroups=1000 -p " +
		"AmbientCapabilities=CAP_DAC_READ_SEARCH /usr/bin/atoprobe "
	inside := func(name string) (string, error) {
		_, err := g.try("systemctl start probe@" + name)
		out, _ := g.try("journalctl -u probe@" + name +
			" -o cat --no-pager | grep -v -e ^Start -e ^probe@ -e ^Finished -e ^Failed | tail -n 1")
		return out, err
	}
	for _, name := range slices.Sorted(maps.Keys(probes)) {
		if out, err := g.try(control + name); err != nil {
			t.Errorf("%s: fails outside the sandbox too: %v %s", name, err, out)
		}
		out, err := inside(name)
		if err == nil {
			t.Errorf("%s: the sandbox allows it", name)
		}
		t.Logf("%-18s outside: allowed; inside: %s", name, out)
	}
	for _, name := range slices.Sorted(maps.Keys(allowed)) {
		if out, err := inside(name); err != nil {
			t.Errorf("%s: the sandbox refuses it: %s", name, out)
		}
	}
}

func (g *guest) reload(t *testing.T) {
	g.t = t
	g.write("/etc/atobackupd/config.toml", fmt.Sprintf(config, "30 7 * * *"))
	g.sh("systemctl reload atobackupd")
	g.await("a good configuration is in force", "systemctl show -p StatusText atobackupd | grep 07:30", 10*time.Second)
	g.write("/etc/atobackupd/config.toml", "nonsense = 1\n"+fmt.Sprintf(config, "45 8 * * *"))
	g.sh("systemctl reload atobackupd")
	g.await("a bad one is refused, and told once", "grep 'CRITICAL config' /run/sink.log", 10*time.Second)
	g.sh("systemctl show -p ActiveState,StatusText,NRestarts atobackupd | tee /dev/stderr | grep 07:30")
	g.write("/etc/atobackupd/config.toml", fmt.Sprintf(config, "0 6 * * *"))
	g.sh("systemctl reload atobackupd")
	g.await("its recovery is told", "grep 'RECOVERED config' /run/sink.log", 10*time.Second)
	if n := g.sh("wc -l </run/sink.log"); n != "2" {
		t.Errorf("%s messages, want 2", n)
	}
}

func (g *guest) watchdog(t *testing.T) {
	g.t = t
	// The loop looks every 30 s.
	g.sh("mkdir -p /run/systemd/system/atobackupd.service.d && printf " +
		"'[Service]\\nWatchdogSec=35s\\nRestartSec=1s\\n' >/run/systemd/system/atobackupd.service.d/test.conf && " +
		"systemctl daemon-reload && systemctl restart atobackupd")
	// It is fed for longer than its limit.
	time.Sleep(45 * time.Second)
	g.sh("test $(systemctl show -P NRestarts atobackupd) = 0 && systemctl is-active atobackupd")
	g.sh("kill -STOP $(systemctl show -P MainPID atobackupd)")
	g.await("the watchdog killed it, and it is back",
		"test $(systemctl show -P NRestarts atobackupd) = 1 && systemctl is-active --quiet atobackupd", 3*time.Minute)
	g.sh("journalctl -u atobackupd -o cat --no-pager | grep -i -e watchdog -e 'code=' -e ready | tail -n 6")
	g.await("people are told", "grep 'CRITICAL daemon.*watchdog' /run/sink.log", 20*time.Second)
	if s := g.status(); s.Level != "critical" || len(s.Alarms) != 1 || s.Alarms[0].Leg != "daemon" {
		t.Errorf("status: %+v", s)
	}
}

// take makes the daemon take a snapshot at the next chance and waits until that
// is half done.
func (g *guest) take() {
	g.t.Helper()
	g.write("/etc/atobackupd/config.toml", fmt.Sprintf(config, "@every 2s"))
	g.sh("systemctl reload atobackupd")
	g.await("a take is under way", "test -s $(echo /srv/storage/atocore/backups/staging/*/db/atocore.db)",
		30*time.Second)
}

// whole checks that whatever is published is whole, and how the last take ended.
func (g *guest) whole(outcome string) {
	g.t.Helper()
	g.sh("ls /srv/storage/atocore/backups/snapshots /srv/storage/atocore/backups/staging; atobackupd validate --all")
	got := g.sh("sqlite3 /var/lib/atobackupd/history.db \"SELECT outcome FROM runs WHERE job = 'backup' ORDER BY id " +
		"DESC LIMIT 1\"")
	if got != outcome {
		g.t.Errorf("the last take is %q in the history, want %q", got, outcome)
	}
}

func (g *guest) stopInTake(t *testing.T) {
	g.t = t
	g.take()
	begin := time.Now()
	g.sh("systemctl stop atobackupd; systemctl show -p Result,ExecMainStatus,ActiveState atobackupd | tee " +
		"/dev/stderr | grep -q Result=success")
	t.Logf("stopped within %s", time.Since(begin).Round(time.Millisecond))
	g.write("/etc/atobackupd/config.toml", fmt.Sprintf(config, "0 6 * * *"))
	g.whole("interrupted")
	g.sh("systemctl start atobackupd")
}

func (g *guest) rebootInTake(t *testing.T) {
	for _, how := range []string{"orderly", "cut"} {
		g.t = t
		g.take()
		if how == "cut" {
			g.down("cut")
		} else {
			g.down()
		}
		// The clock of the next boot must not start a take at once.
		if err := os.WriteFile(filepath.Join(g.run, "upper/etc/atobackupd/config.toml"),
			fmt.Appendf(nil, config, "0 6 * * *"), 0o644); err != nil {
			t.Fatal(err)
		}
		g.up()
		g.await("it starts by itself after "+how, "systemctl is-active --quiet atobackupd", 20*time.Second)
		g.sh("journalctl -b -u atobackupd -o cat --no-pager | grep -e staging -e 'cut short' -e ready || true")
		g.sh("test -z \"$(ls /srv/storage/atocore/backups/staging)\"")
		g.whole("interrupted")
	}
}

func (g *guest) restore(t *testing.T) {
	g.t = t
	g.sh("systemctl start sink; atobackupd backup")
	// What root has taken must not be beyond the service's reach.
	g.sh("test -z \"$(find /srv/storage/atocore/backups /var/lib/atobackupd -user root | tee /dev/stderr)\"")
	stamp := g.sh("ls /srv/storage/atocore/backups/snapshots | tail -n 1")
	g.sh("systemd-run --quiet --unit=app --uid=1000 -- sqlite3 /srv/storage/atocore/data/db/atocore.db 'DELETE FROM " +
		"memories' '.shell sleep 1000'")
	g.await("the application has the database open", "pgrep -x sleep", time.Minute)
	if out, err := g.try("systemctl start atobackupd-restore@" + stamp); err == nil {
		t.Errorf("a restore under a running application: %s", out)
	}
	g.sh("journalctl -u atobackupd-restore@" + stamp + " -o cat --no-pager | grep 'is open in pid'")
	g.sh("systemctl stop app; systemctl start atobackupd-restore@" + stamp + "; journalctl -u atobackupd-restore@" +
		stamp + " -o cat --no-pager | tail -n 6")
	if n := g.sh("sqlite3 /srv/storage/atocore/data/db/atocore.db 'SELECT count(*) FROM memories'; stat -c '%U:%G " +
		"%a' /srv/storage/atocore/data/db/atocore.db"); !strings.HasPrefix(n, "300000\nato:ato") {
		t.Errorf("after the restore: %s", n)
	}
	g.sh("test -z \"$(find /srv/storage/atocore/backups /var/lib/atobackupd -user root | tee /dev/stderr)\"")
}
