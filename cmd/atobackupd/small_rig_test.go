//go:build rig

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/provetest"
	"github.com/atocore/atobackupd/offsite/sftp/sshdtest"
)

// The machine of TestSmallMachine, and the patience of the unit file with a daemon
// that says nothing.
const (
	smallMemory   = 192 << 20
	smallDisk     = 20_000_000 // bytes a second, read and written
	watchdogAfter = 3 * time.Minute
)

// smallMachine is a disk that is slow, and a control group whose processes have
// little memory, the page cache included.
type smallMachine struct{ dir, group string }

func newSmallMachine(t *testing.T) smallMachine {
	t.Helper()
	m := smallMachine{dir: filepath.Join(t.TempDir(), "disk")}
	rig := filepath.Join(os.Getenv("ATOBACKUPD_SHARED"), "rig")
	output(t, "/", filepath.Join(rig, "fs-up.sh"), "ext4", "3G", m.dir)
	t.Cleanup(func() { output(t, "/", filepath.Join(rig, "fs-down.sh"), m.dir) })
	m.group = m.limit(t)
	t.Cleanup(func() { must(t, os.Remove(m.group)) })
	return m
}

// limit makes the control group, and returns the directory whose processes are in it.
func (m smallMachine) limit(t *testing.T) (group string) {
	t.Helper()
	loop := filepath.Base(strings.TrimSpace(output(t, "/", "findmnt", "-no", "SOURCE", m.dir)))
	device := strings.TrimSpace(output(t, "/", "cat", "/sys/block/"+loop+"/dev"))
	set := func(value string, path ...string) {
		t.Helper()
		must(t, os.WriteFile(filepath.Join(path...), []byte(value), 0o600))
	}
	const root = "/sys/fs/cgroup"
	if _, err := os.Stat(root + "/cgroup.controllers"); err == nil { // version 2
		set("+memory +io", root, "cgroup.subtree_control")
		group, err = os.MkdirTemp(root, "atobackupd-small-")
		must(t, err)
		set(fmt.Sprint(smallMemory), group, "memory.max")
		set(fmt.Sprintf("%s rbps=%d wbps=%[2]d", device, smallDisk), group, "io.max")
		return group
	}
	group, err := os.MkdirTemp(root+"/memory", "atobackupd-small-")
	must(t, err)
	set(fmt.Sprint(smallMemory), group, "memory.limit_in_bytes")
	// Version 1 knows not who dirtied a page: the disk is slow for everybody.
	for _, way := range []string{"read", "write"} {
		rule := root + "/blkio/blkio.throttle." + way + "_bps_device"
		set(fmt.Sprint(device, " ", smallDisk), rule)
		t.Cleanup(func() { set(device+" 0", rule) })
	}
	return group
}

// killed returns how many processes of the group the kernel killed for want of memory.
func (m smallMachine) killed(t *testing.T) string {
	t.Helper()
	return output(t, m.group, "sh", "-c", `cat memory.oom_control memory.events 2>/dev/null | grep 'oom_kill '`)
}

// systemd hears what the daemon says of itself.
type systemd struct {
	sync.Mutex
	fed     int
	longest time.Duration
}

func newSystemd(t *testing.T, path string) *systemd {
	t.Helper()
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	must(t, err)
	t.Cleanup(func() { _ = socket.Close() })
	s := &systemd{}
	go func() {
		last, message := time.Now(), make([]byte, 4096)
		for {
			n, err := socket.Read(message)
			if err != nil {
				return
			}
			if strings.Contains(string(message[:n]), "WATCHDOG=1") {
				s.Lock()
				s.fed, s.longest, last = s.fed+1, max(s.longest, time.Since(last)), time.Now()
				s.Unlock()
			}
		}
	}()
	return s
}

// smallJobs are what the daemon does on the small machine, as its history names it.
var smallJobs = []string{"backup", "prune", "sync:laptop", "verify:laptop", "drill"}

// smallCommands are typed there afterwards.
var smallCommands = []string{
	`a validate --all`, `a vault verify`, `a prune`,
	`a vault restore latest --identity key.txt --to out >/dev/null; ` +
		`diff -r backups/snapshots/$(ls backups/snapshots | tail -1) out; echo "status $?"; rm -rf out`,
	`a restore latest --chroma --confirm-service-stopped --no-pre-snapshot`,
	`cmp store/data/db/atocore.db backups/snapshots/$(ls backups/snapshots | tail -1)/db/atocore.db; echo "status $?"`,
}

// TestSmallMachine has the daemon and the commands do everything on a machine with
// 192 MiB of memory and a disk of 20 MB a second, with a database that has no room in
// that memory.
func TestSmallMachine(t *testing.T) {
	m := newSmallMachine(t)
	s := newTrustSceneIn(t, buildProgram(t), m.dir)
	t.Setenv("GROUP", m.group)
	hears := newSystemd(t, filepath.Join(s.dir, "notify"))
	t.Setenv("NOTIFY_SOCKET", filepath.Join(s.dir, "notify"))
	server := sshdtest.Start(t, sshdtest.Options{})
	s.root(t, `sqlite3 store/data/db/atocore.db "with recursive n(i) as (select 2 union all select i+1 from n `+
		`where i<215000) insert into memories select i, hex(randomblob(450)) from n"; sync`)
	soon := time.Now().UTC().Add(75 * time.Second) // when the daemon has started
	config, _, _ := strings.Cut(output(t, s.dir, "cat", "config.toml"), "[[offsite]]")
	config += fmt.Sprintf(`[[offsite]]
name = "laptop"
hosts = [%q]
port = %d
user = %q
identity_file = %q
known_hosts = %q
path = "%s/vault"
[http]
listen = ""
[schedule]
daily = ""
weekly = "%d * * * *"
monthly = ""
verify = "* * * * *"
drill = "%d * * * *"
`, server.Host, server.Port, server.User, server.IdentityFile, server.KnownHosts, server.Dir,
		soon.Minute(), soon.Add(time.Minute).Minute())
	must(t, os.WriteFile(filepath.Join(s.dir, "config.toml"), []byte(config), 0o600))

	points := m.runDaemon(t, s)
	for _, script := range smallCommands {
		began := time.Now()
		out := s.root(t, `echo $$ >$GROUP/cgroup.procs; `+script+` 2>&1`)
		if !strings.HasSuffix(out, "status 0\n") {
			t.Errorf("%s: %s", script, out)
		}
		t.Logf("%.1f s: %s", time.Since(began).Seconds(), script)
		points++
	}
	if killed := strings.TrimSpace(m.killed(t)); killed != "oom_kill 0" {
		t.Errorf("there was too little memory: %s", killed)
	}
	provetest.Points(t, points)
	hears.Lock()
	defer hears.Unlock()
	t.Logf("the watchdog was fed %d times, after %s at most", hears.fed, hears.longest)
	if hears.fed < 3 || hears.longest > watchdogAfter {
		t.Error("the watchdog would have bitten")
	}
}

// runDaemon runs it until each job was done, and reads the status all the while. It
// returns how much was asked.
func (m smallMachine) runDaemon(t *testing.T, s *trustScene) (points int) {
	t.Helper()
	daemon := s.command(0, `echo $$ >$GROUP/cgroup.procs; exec "$A" --config config.toml run 2>log`)
	must(t, daemon.Start())
	t.Cleanup(func() { _ = syscall.Kill(-daemon.Process.Pid, syscall.SIGKILL) })
	status := ""
	for missing := smallJobs; len(missing) > 0 || !strings.Contains(status, "status 0"); points++ {
		if points > 100 {
			t.Fatalf("%v are not done:\n%s\n%s", missing, status, output(t, s.dir, "cat", "log"))
		}
		time.Sleep(5 * time.Second)
		status = s.root(t, `echo $$ >$GROUP/cgroup.procs; a status`)
		for line := range strings.Lines(strings.ReplaceAll(status, "\n    ", " ")) { // unwrapped
			isFirst := strings.Contains(line, " valid, ")
			if strings.HasPrefix(line, "critical") || strings.HasPrefix(line, "warning") && !isFirst &&
				!strings.Contains(line, "it has not run yet") {
				t.Fatalf("it says what is not true: %s\n%s", line, status)
			}
		}
		done := s.root(t, `sqlite3 -readonly state/history.db "select job from runs where outcome = 'ok'"`)
		missing = slices.DeleteFunc(slices.Clone(smallJobs), func(job string) bool {
			return strings.Contains(done, job+"\n")
		})
	}
	must(t, syscall.Kill(daemon.Process.Pid, syscall.SIGTERM))
	if err := daemon.Wait(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		t.Errorf("the daemon ended with %v: %s", err, output(t, s.dir, "cat", "log"))
	}
	t.Logf("%s", s.root(t, `a history`))
	return points + len(smallJobs)
}
