package sftp

import (
	"crypto/ed25519"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
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
			host.PublicKey(), ErrHostKeyUnknown,
		},
		{
			"an authority's own key", line("@cert-authority laptop", authority), "laptop:22",
			authority.PublicKey(), ErrHostKeyUnknown,
		},
		{
			"another authority", line("@cert-authority\tlaptop", other), "laptop:22", cert, ErrHostKeyUnknown,
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

// line is one line of known_hosts.
func line(pattern string, key ssh.Signer) string {
	return pattern + " " + string(ssh.MarshalAuthorizedKey(key.PublicKey()))
}

// Where only authorities are known, certificates are asked for; where a key is, keys
// of its type.
func TestHostKeyAlgorithms(t *testing.T) {
	host, authority := newKey(t, 0), newKey(t, 2)
	for _, c := range []struct {
		what, file  string
		plain, cert bool
	}{
		{"a key", line("laptop", host), true, false},
		{"an authority", line("@cert-authority laptop", authority), false, true},
		{"both", line("@cert-authority laptop", authority) + line("laptop", host), true, true},
		{"the authority of others", line("@cert-authority nas", authority) + line("laptop", host), true, false},
	} {
		file := filepath.Join(t.TempDir(), "known_hosts")
		if err := os.WriteFile(file, []byte(c.file), 0o600); err != nil {
			t.Fatal(err)
		}
		keys, err := readKnownHosts(file, "laptop:22", Config{KnownHosts: file})
		if err != nil {
			t.Fatal(err)
		}
		names := keys.algorithms()
		if plain := slices.Contains(names, ssh.KeyAlgoED25519); plain != c.plain {
			t.Errorf("%s: %v", c.what, names)
		}
		if cert := slices.Contains(names, ssh.CertAlgoED25519v01); cert != c.cert {
			t.Errorf("%s: %v", c.what, names)
		}
	}
}

// A key that was recorded and is shown no more is spoken of before the new one is
// trusted beside it; one of another type is a second key of the same machine.
func TestContradiction(t *testing.T) {
	shown, other := newKey(t, 1), newKey(t, 2)
	cfg := Config{Hosts: []string{"a.example", "laptop.local"}, Port: 22}
	for name, test := range map[string]struct {
		known string
		want  bool
	}{
		"nothing":      {"", false},
		"the same":     {line("laptop.local", shown), false},
		"another":      {line("laptop.local", other), true},
		"both":         {line("laptop.local", other) + line("laptop.local", shown), false},
		"another host": {line("attic.local", other), false},
	} {
		cfg.KnownHosts = filepath.Join(t.TempDir(), "known_hosts")
		if err := os.WriteFile(cfg.KnownHosts, []byte(test.known), 0o600); err != nil {
			t.Fatal(err)
		}
		err := Contradiction(cfg, []string{strings.TrimSpace(line("laptop.local", shown))})
		if (err != nil) != test.want || test.want && !errors.Is(err, ErrHostKeyChanged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	cfg.KnownHosts = filepath.Join(t.TempDir(), "none")
	if err := Contradiction(cfg, []string{"laptop.local nonsense"}); err != nil {
		t.Errorf("no key: %v", err)
	}
}
