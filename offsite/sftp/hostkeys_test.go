package sftp

import (
	"crypto/ed25519"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/atocore/atobackupd/internal/failure"
)

func newKey(t *testing.T, seed byte) ssh.Signer {
	t.Helper()
	signer, err := ssh.NewSignerFromKey(
		ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune('a'+seed)), ed25519.SeedSize))),
	)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// TestKnownHosts reads known_hosts files as OpenSSH does.
func TestKnownHosts(t *testing.T) {
	host, other, authority := newKey(t, 0), newKey(t, 1), newKey(t, 2)
	line := func(pattern string, key ssh.Signer) string {
		return pattern + " " + string(ssh.MarshalAuthorizedKey(key.PublicKey()))
	}
	cert := &ssh.Certificate{
		Key: host.PublicKey(), CertType: ssh.HostCert, ValidPrincipals: []string{"laptop"},
		ValidBefore: ssh.CertTimeInfinity,
	}
	if err := cert.SignCert(strings.NewReader(strings.Repeat("x", 64)), authority); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what, file, address string
		shown               ssh.PublicKey
		want                error
	}{
		{"its line", line("laptop", host), "laptop:22", host.PublicKey(), nil},
		{"its line with a port", line("[laptop]:2222", host), "laptop:2222", host.PublicKey(), nil},
		{"a line without a port, for another port", line("laptop", host), "laptop:2222", host.PublicKey(), nil},
		{
			"a line with a port comes before one without", line("laptop", other) + line("[laptop]:2222", host),
			"laptop:2222", host.PublicKey(), nil,
		},
		{"a star, for another port", line("*", host), "laptop:2222", host.PublicKey(), nil},
		{
			"a bad line of another host", "nas ssh-ed25519 AAAA\n" + line("laptop", host), "laptop:22",
			host.PublicKey(), nil,
		},
		{"hashed", line(knownhosts.HashHostname("laptop"), host), "laptop:22", host.PublicKey(), nil},
		{"an authority", line("@cert-authority laptop", authority), "laptop:22", cert, nil},
		{"an authority, for another port", line("@cert-authority *", authority), "laptop:2222", cert, nil},
		{"nothing", "", "laptop:22", host.PublicKey(), ErrHostKeyUnknown},
		{"another host's line", line("nas", host), "laptop:22", host.PublicKey(), ErrHostKeyUnknown},
		{"another key", line("laptop", other), "laptop:22", host.PublicKey(), ErrHostKeyChanged},
		{
			"a key that no authority signed", line("@cert-authority laptop", authority), "laptop:22",
			host.PublicKey(), ErrHostKeyChanged,
		},
	} {
		t.Run(c.what, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "known_hosts")
			if err := os.WriteFile(file, []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
			keys, err := readKnownHosts(file, c.address, Config{KnownHosts: file})
			if err == nil {
				err = keys.check(c.address, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, c.shown)
			}
			if !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if err != nil && c.want != nil && failure.KindOf(err) != failure.HostKey {
				t.Errorf("kind %d of %v", failure.KindOf(err), err)
			}
		})
	}
}
