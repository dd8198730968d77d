package daemon

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/offsite/sftp/sshdtest"
	"github.com/atocore/atobackupd/snapshot"
)

// far is a world with a target on another machine: a real OpenSSH server.
type far struct {
	*world
	server *sshdtest.Server
}

func newFar(t *testing.T) *far {
	server := sshdtest.Start(t, sshdtest.Options{})
	return &far{server: server, world: &world{house: newHouse(t, fmt.Sprintf(`
[[offsite]]
name = "laptop"
hosts = [%q]
port = %d
user = %q
identity_file = %q
known_hosts = %q
path = %q
connect_timeout = "1s"
`, server.Host, server.Port, server.User, server.IdentityFile, server.KnownHosts, server.Dir+"/vault"))}}
}

// late makes the target's limit one that has passed.
func (f *far) late() {
	f.t.Helper()
	f.configure(func(c *config.Config) { c.Offsite[1].MaxAge = config.Limit(time.Second) })
	f.take(snapshot.Daily)
	f.pass(2 * time.Second)
	f.take(snapshot.Daily)
	f.mustFail(f.tryShip())
}

func (f *far) inTime() {
	f.t.Helper()
	err := f.tryShip()
	for range 5 { // a server that has just come back on a busy machine may not answer at once
		if failure.KindOf(err) != failure.Unreachable {
			break
		}
		err = f.tryShip()
	}
	f.must(err)
	f.configure(func(c *config.Config) { c.Offsite[1].MaxAge = config.Limit(100 * day) })
}

// port has the target look for its server at another one, with the same key.
func (f *far) port(port int) {
	f.t.Helper()
	line := f.server.HostKeyLine("ed25519")
	other := strings.Replace(line, fmt.Sprintf(":%d", f.server.Port), fmt.Sprintf(":%d", port), 1)
	f.must(os.WriteFile(f.server.KnownHosts, []byte(line+other), 0o600))
	f.configure(func(c *config.Config) { c.Offsite[1].Port = port })
}

// The states of another machine, each made for real, asked of every mouth, and
// ended. Time is real: a network does not wait for a test's own.
func TestTruthOfServers(t *testing.T) {
	f := newFar(t)
	key, err := os.ReadFile(f.server.IdentityFile)
	if err != nil {
		t.Fatal(err)
	}
	f.wake()
	f.take(snapshot.Daily)
	f.ship()
	f.must(f.verify())
	f.sink.take()
	for _, s := range []struct {
		name, text string
		make, end  func()
	}{
		{"it does not know the key", "key",
			func() {
				f.must(os.Remove(f.server.IdentityFile))
				_, err := crypt.GenerateSSHKey(f.server.IdentityFile, "another")
				f.must(err)
				f.take(snapshot.Daily)
				f.mustFail(f.tryShip())
			},
			func() { f.must(os.WriteFile(f.server.IdentityFile, key, 0o600)); f.ship() }},
		{"the key file is garbage", f.server.IdentityFile,
			func() {
				f.must(os.WriteFile(f.server.IdentityFile, []byte("garbage"), 0o600))
				f.take(snapshot.Daily)
				f.mustFail(f.tryShip())
			},
			func() { f.must(os.WriteFile(f.server.IdentityFile, key, 0o600)); f.ship() }},
		{"nobody listens", "refused",
			func() { f.port(1); f.late() },
			func() { f.port(f.server.Port); f.inTime() }},
		{"it hangs", "no answer in time",
			func() { f.server.StopAccepting(); f.late() },
			func() { f.server.Resume(); f.inTime() }},
		{"it speaks another protocol", "laptop",
			func() { f.port(speaking(t, "HTTP/1.1 500 Internal Server Error\r\n\r\n")); f.late() },
			func() { f.port(f.server.Port); f.inTime() }},
		{"the host key has changed", "HOST KEY CHANGED",
			func() {
				f.server.NewHostKey()
				f.take(snapshot.Daily)
				f.mustFail(f.tryShip())
			},
			func() {
				f.must(os.WriteFile(f.server.KnownHosts, []byte(f.server.HostKeyLine("ed25519")), 0o600))
				f.ship()
			}},
	} {
		t.Run(s.name, func(t *testing.T) {
			f.t = t
			f.runFar(s.text, s.make, s.end)
		})
	}
	f.t = t
	f.sleepDaemon()
}

// runFar makes one state, asks every mouth, ends it, and asks again. Of legs whose
// first time has not come nothing is asked.
func (f *far) runFar(text string, begin, end func()) {
	f.t.Helper()
	f.settleFar()
	f.look()
	f.d.alarmLoop.sent = nil // the bound on messages is another test's
	begin()
	f.check("while it holds", "critical offsite:laptop", text)
	if got := f.look(); len(got) != 1 {
		f.t.Errorf("people are told %q", got)
	}
	end()
	if got := f.look(); len(got) != 1 {
		f.t.Errorf("after its end people are told %q", got)
	}
	for who, m := range f.listen() {
		if m.bad["offsite:laptop"] != "" {
			f.t.Errorf("after its end %s says %v: %s", who, m.bad, m.text)
		}
	}
}

// settleFar does what would be due otherwise.
func (f *far) settleFar() {
	f.t.Helper()
	f.ship()
	f.prune()
}

// speaking is a server that says a line to whoever connects.
func speaking(t *testing.T, line string) (port int) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte(line))
			conn.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}
