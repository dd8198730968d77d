//go:build rig

package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/provetest"
	"github.com/atocore/atobackupd/offsite/sftp/sshdtest"
)

// relay passes connections on to a server, and can reset them all.
type relay struct {
	net.Listener
	mu    sync.Mutex
	conns []*net.TCPConn
}

func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	r := &relay{Listener: l}
	t.Cleanup(func() { _ = l.Close(); r.cut() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				_ = client.Close()
				continue
			}
			r.mu.Lock()
			r.conns = append(r.conns, client.(*net.TCPConn), server.(*net.TCPConn))
			r.mu.Unlock()
			for a, b := range map[net.Conn]net.Conn{client: server, server: client} {
				go func() {
					_, _ = io.Copy(a, b)
					_, _ = a.Close(), b.Close()
				}()
			}
		}
	}()
	return r
}

func (r *relay) port() int { return r.Addr().(*net.TCPAddr).Port }

// cut resets every connection, in the middle of whatever it says.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		_, _ = c.SetLinger(0), c.Close()
	}
	r.conns = nil
}

// peerFault is what happens to a push, and what somebody does afterwards, before the
// next one.
type peerFault struct{ strike, undo func() }

// peered is an installation whose one target is a real server, on a disk of its own.
type peered struct {
	*trustScene
	t      *testing.T
	disk   string // mounted
	vault  string // on it
	target string // its name
	relay  *relay
	faults map[string]peerFault
}

// newPeered makes one. Its database is a few MB, and a push about one.
func newPeered(t *testing.T, target, vault string) *peered {
	t.Helper()
	p := &peered{trustScene: newTrustScene(t, buildProgram(t)), t: t, target: target, disk: newDisk(t, "512M")}
	p.vault = filepath.Join(p.disk, vault)
	t.Setenv("DISK", p.disk)
	t.Setenv("VAULT", p.vault)
	p.root(t, `mkdir -p "$VAULT"; sqlite3 store/data/db/atocore.db "with recursive n(i) as (select 2 union all `+
		`select i+1 from n where i<4000) insert into memories select i, hex(randomblob(400)) from n"`)
	p.faults = map[string]peerFault{
		"cut": {strike: func() { p.relay.cut() }},
		"filled": {
			strike: func() { p.root(t, `fallocate -l $(df -B1 --output=avail "$DISK" | tail -1) "$DISK/full"`) },
			undo:   func() { p.root(t, `rm -f "$DISK/full"`) },
		},
		// The machine's clock was wrong for a while: what it wrote bears other times.
		"clock moved": {undo: func() {
			p.root(t, fmt.Sprintf(`find "$VAULT" -type f -newer stamp -exec touch -d '%+d days' {} +`,
				rand.IntN(800)-400))
		}},
	}
	return p
}

// newDisk mounts a file system of its own, until the test ends.
func newDisk(t *testing.T, size string) (dir string) {
	t.Helper()
	rig := filepath.Join(os.Getenv("ATOBACKUPD_SHARED"), "rig")
	top, err := os.MkdirTemp("/tmp", "atobackupd-disk-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(top) })
	must(t, os.Chmod(top, 0o755))
	dir = filepath.Join(top, "disk")
	output(t, "/", filepath.Join(rig, "fs-up.sh"), "ext4", size, dir)
	t.Cleanup(func() { output(t, "/", filepath.Join(rig, "fs-down.sh"), dir) })
	return dir
}

// reach replaces the target of the configuration.
func (p *peered) reach(format string, args ...any) {
	p.t.Helper()
	config, _, _ := strings.Cut(output(p.t, p.dir, "cat", "config.toml"), "[[offsite]]")
	config += "[[offsite]]\nname = \"" + p.target + "\"\n" + fmt.Sprintf(format, args...) +
		"[offsite.retention]\ndaily = 0\nweekly = 0\nmonthly = 0\n[http]\nlisten = \"\"\n"
	must(p.t, os.WriteFile(filepath.Join(p.dir, "config.toml"), []byte(config), 0o600))
}

// TestPeerSSH has pushes to a real sshd meet a fault at a random moment each.
func TestPeerSSH(t *testing.T) {
	p := newPeered(t, "laptop", "vault")
	server := sshdtest.Start(t, sshdtest.Options{Root: p.disk})
	p.relay = newRelay(t, server.Address())
	known := filepath.Join(p.dir, "known_hosts")
	vouch := func() {
		line := strings.Replace(server.HostKeyLine("ed25519"), fmt.Sprintf(":%d ", server.Port),
			fmt.Sprintf(":%d ", p.relay.port()), 1)
		must(t, os.WriteFile(known, []byte(line), 0o600))
	}
	vouch()
	p.reach("hosts = [\"127.0.0.1\"]\nport = %d\nuser = %q\nidentity_file = %q\nknown_hosts = %q\npath = %q\n",
		p.relay.port(), server.User, server.IdentityFile, known, p.vault)
	p.faults["session killed"] = peerFault{strike: server.DropSessions}
	p.faults["server killed"] = peerFault{strike: server.Stop, undo: server.Restart}
	p.faults["stalled"] = peerFault{strike: func() {
		server.Stall()
		time.Sleep(time.Second)
		server.Resume()
	}}
	p.faults["keyed anew"] = peerFault{strike: func() {
		server.Stop()
		server.NewHostKey()
		server.Restart()
	}, undo: vouch}
	p.run(provetest.Rounds(t, 9))
}

// TestPeerS3 has pushes to a real S3 server meet a fault at a random moment each.
func TestPeerS3(t *testing.T) {
	p := newPeered(t, "bucket", "data/vault")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := l.Addr().String()
	must(t, l.Close())
	rig := filepath.Join(os.Getenv("ATOBACKUPD_SHARED"), "rig")
	cache, err := os.UserCacheDir()
	must(t, err)
	start := func() {
		_, port, _ := net.SplitHostPort(address)
		up := exec.Command(filepath.Join(rig, "s3-up.sh"), p.disk, port, "versitygw")
		up.Env = append(os.Environ(), "S3_BIN="+cmp.Or(os.Getenv("S3_BIN"), filepath.Join(cache, "atobackupd-rig/s3")))
		if out, err := up.CombinedOutput(); err != nil {
			t.Fatalf("s3-up.sh: %v\n%s", err, out)
		}
	}
	signal := func(sig syscall.Signal) {
		pid, err := strconv.Atoi(strings.TrimSpace(output(t, p.disk, "cat", "pid")))
		must(t, err)
		must(t, syscall.Kill(pid, sig))
	}
	start()
	t.Cleanup(func() { signal(syscall.SIGKILL) })
	p.relay = newRelay(t, address)
	p.reach("type = \"s3\"\nendpoint = \"http://127.0.0.1:%d\"\nbucket = \"vault\"\nregion = \"us-east-1\"\n"+
		"credentials_file = %q\n", p.relay.port(), filepath.Join(p.disk, "credentials"))
	p.faults["server killed"] = peerFault{strike: func() { signal(syscall.SIGKILL) }, undo: start}
	p.faults["stalled"] = peerFault{strike: func() {
		signal(syscall.SIGSTOP)
		time.Sleep(time.Second)
		signal(syscall.SIGCONT)
	}}
	p.run(provetest.Rounds(t, 7))
}

// run pushes again and again. What a push leaves that met a fault is completed by the
// next one.
func (p *peered) run(rounds int) {
	t := p.t
	ok := func(at, script string) {
		t.Helper()
		if out := p.root(t, script+` 2>&1`); !strings.HasSuffix(out, "status 0\n") || strings.Contains(out, "panic:") {
			t.Errorf("%s: %s: %s", at, script, out)
		}
	}
	change := func(n int) {
		p.root(t, fmt.Sprintf(`sqlite3 store/data/db/atocore.db "update memories set t=hex(randomblob(400)) `+
			`where id %% 9 = %d"`, n%9))
		ok("a change", `a backup`)
	}
	ok("the first", `a backup --chroma`)
	ok("the first", `a sync`)
	usual := time.Hour
	for n := range 3 {
		change(n)
		began := time.Now()
		ok("a push", `a sync`)
		usual = min(usual, time.Since(began))
	}

	const killed = "this program killed"
	p.faults[killed] = peerFault{}
	kinds := slices.Sorted(maps.Keys(p.faults))
	met, failed := map[string]int{}, 0
	for n := range rounds {
		kind := kinds[n%len(kinds)]
		fault := p.faults[kind]
		change(n + 1)
		var out bytes.Buffer
		p.root(t, `touch stamp`)
		push := p.command(0, `exec timeout -k 2 90 "$A" --config config.toml sync`)
		push.Stdout, push.Stderr = &out, &out
		must(t, push.Start())
		time.Sleep(rand.N(usual))
		if fault.strike != nil {
			fault.strike()
		} else if kind == killed {
			_ = syscall.Kill(-push.Process.Pid, syscall.SIGKILL)
		}
		err := push.Wait()
		at := fmt.Sprintf("%d: %s: %v: %s", n, kind, err, &out)
		if push.ProcessState.ExitCode() == 124 || strings.Contains(out.String(), "panic:") {
			t.Errorf("%s: it hung or panicked", at)
		}
		if err != nil {
			met[kind]++
			failed++
		}
		if fault.undo != nil {
			fault.undo()
		}
		ok(at, `a sync`)
		if n%25 == 24 {
			ok(at, `a vault verify`)
		}
		if t.Failed() {
			break // what follows is of the same
		}
	}
	t.Logf("a push takes %s; failed: %v", usual, met)
	if failed < rounds/4 {
		t.Error("hardly a push met its fault")
	}
	p.wantWhole(ok)
	provetest.Points(t, rounds)
}

// wantWhole verifies the vault, restores every snapshot, and looks for garbage once
// the times have passed in which it may belong to a push that is under way.
func (p *peered) wantWhole(ok func(at, script string)) {
	t := p.t
	ok("in the end", `a vault verify`)
	stamps := strings.Fields(p.root(t, `ls backups/snapshots`))
	for _, stamp := range stamps {
		ok("in the end", `rm -rf out; a vault restore `+stamp+` --identity key.txt --to out >/dev/null; `+
			`diff -r backups/snapshots/`+stamp+` out; echo "status $?"`)
	}
	p.root(t, `find "$VAULT" -type f -exec touch -d '10 days ago' {} +`)
	ok("ten days later", `a vault prune --now --confirm`)
	left := p.root(t, `cd "$VAULT"; find incoming trash -type f 2>/dev/null; ls packs | sed 's/^/packs\//' >$D/packs; `+
		`cat snapshots/*.SHA256SUMS | grep -o 'packs/.*' | sort -u | comm -23 $D/packs -`)
	if left != "" {
		t.Errorf("garbage is left:\n%s", left)
	}
	ok("after the prune", `a vault verify`)
	ok("after the prune", `rm -rf out; a vault restore latest --identity key.txt --to out >/dev/null; `+
		`diff -r backups/snapshots/`+stamps[len(stamps)-1]+` out; echo "status $?"`)
}
