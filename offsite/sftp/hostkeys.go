package sftp

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/atocore/atobackupd/internal/failure"
)

// hostKeys is what known_hosts says about one host.
type hostKeys struct {
	plain     ssh.HostKeyCallback // judges keys: the library takes an authority's own for a host's
	certified ssh.HostKeyCallback // judges certificates
	address   string
	lookup    string // the address as known_hosts has it: perhaps without its port
	known     []ssh.PublicKey
	authority bool // an authority may have signed its key
	cfg       Config
	refused   *failure.Error // why check said no
}

// What known_hosts says against a host: nothing, or another key.
var (
	ErrHostKeyUnknown = errors.New("its host key is unknown")
	ErrHostKeyChanged = errors.New("HOST KEY CHANGED")
)

// readKnownHosts reads the keys of address as OpenSSH does: hashed lines too, those
// of the host without a port where none names its port, and past lines that cannot
// be read, which are another host's business. A host without any key is refused
// here: no key, no session.
func readKnownHosts(file, address string, cfg Config) (*hostKeys, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, unknownHost(fmt.Sprintf("there is no %s", file), cfg)
	}
	if err != nil {
		return nil, &failure.Error{Kind: failure.Config, Err: fmt.Errorf("known_hosts: %w", err)}
	}
	lines := readableLines(data)
	keys, authorities := splitAuthorities(lines)
	var callbacks [3]ssh.HostKeyCallback
	for i, lines := range [][]byte{lines, keys, authorities} {
		if callbacks[i], err = hostKeyCallback(lines); err != nil {
			return nil, &failure.Error{Kind: failure.Config, Err: fmt.Errorf("known_hosts %s: %w", file, err)}
		}
	}
	host, _, _ := net.SplitHostPort(address)
	for _, lookup := range []string{address, net.JoinHostPort(host, "22")} {
		k := &hostKeys{certified: callbacks[0], plain: callbacks[1], lookup: lookup, address: address, cfg: cfg}
		k.known, k.authority = wanted(k.plain, lookup), len(wanted(callbacks[2], lookup)) > 0
		if len(k.known) > 0 || k.authority {
			return k, nil
		}
	}
	return nil, unknownHost(fmt.Sprintf("%s has no line for %s", file, knownhosts.Normalize(address)), cfg)
}

// readableLines drops the lines that cannot be read.
func readableLines(data []byte) (lines []byte) {
	for line := range bytes.Lines(data) {
		if _, _, _, _, _, err := ssh.ParseKnownHosts(line); err == nil {
			lines = append(append(lines, bytes.TrimSpace(line)...), '\n')
		}
	}
	return lines
}

// splitAuthorities parts the lines of authorities, without their marker, from the
// others.
func splitAuthorities(lines []byte) (keys, authorities []byte) {
	for line := range bytes.Lines(lines) {
		if rest, ok := bytes.CutPrefix(line, []byte("@cert-authority")); ok {
			authorities = append(authorities, bytes.TrimLeft(rest, " \t")...)
		} else {
			keys = append(keys, line...)
		}
	}
	return keys, authorities
}

// hostKeyCallback makes the library read lines, which it does from a file alone.
func hostKeyCallback(lines []byte) (ssh.HostKeyCallback, error) {
	f, err := os.CreateTemp("", "atobackupd-known-hosts-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(lines)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return knownhosts.New(f.Name())
}

// wanted returns the keys of an address: a key that fits nothing makes the library
// list those that would.
func wanted(callback ssh.HostKeyCallback, address string) (keys []ssh.PublicKey) {
	var keyErr *knownhosts.KeyError
	if err := callback(address, &net.TCPAddr{IP: net.IPv4zero}, noKey{}); errors.As(err, &keyErr) {
		for _, want := range keyErr.Want {
			keys = append(keys, want.Key)
		}
	}
	return keys
}

func unknownHost(text string, cfg Config) error {
	return &failure.Error{
		Kind: failure.HostKey, Err: fmt.Errorf("%w: %s", ErrHostKeyUnknown, text), Hint: cfg.trustHint(),
	}
}

// algorithms are those of the known keys. A server has several keys, and asked
// openly it might show one that is not in known_hosts beside one that is.
func (k *hostKeys) algorithms() []string {
	var names []string
	for _, key := range k.known {
		if key.Type() == ssh.KeyAlgoRSA {
			// The key's type names the old signature, which is not safe.
			names = append(names, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
			continue
		}
		names = append(names, key.Type())
	}
	if k.authority {
		names = append(
			names, ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01,
			ssh.CertAlgoECDSA521v01, ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01,
		)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// check accepts a known key and remembers why it refused another.
func (k *hostKeys) check(_ string, remote net.Addr, key ssh.PublicKey) error {
	judge := k.plain
	_, certified := key.(*ssh.Certificate)
	if certified {
		judge = k.certified
	}
	err := judge(k.lookup, remote, key)
	if err == nil {
		return nil
	}
	shown := key.Type() + " " + ssh.FingerprintSHA256(key)
	var revoked *knownhosts.RevokedError
	switch {
	case errors.As(err, &revoked):
		k.refused = &failure.Error{
			Kind: failure.HostKey, Err: fmt.Errorf("its host key %s is revoked", ssh.FingerprintSHA256(key)),
			Hint: k.cfg.trustHint(),
		}
	case certified:
		k.refused = k.uncertified("it shows the certificate " + shown + ": " + err.Error())
	case len(k.known) == 0:
		k.refused = k.uncertified("it shows " + shown)
	default:
		k.refused = k.changed(shown)
	}
	return k.refused
}

// uncertified is about a host of which only authorities are known.
func (k *hostKeys) uncertified(what string) *failure.Error {
	return &failure.Error{
		Kind: failure.HostKey,
		Err: fmt.Errorf("%w: %s, and no @cert-authority in %s has signed that", ErrHostKeyUnknown, what,
			k.cfg.KnownHosts),
		Hint: k.cfg.trustHint(),
	}
}

// changed is loud: either the machine was reinstalled, or it is another one.
func (k *hostKeys) changed(shown string) *failure.Error {
	want := ""
	for i, key := range k.known {
		if i > 0 {
			want += ", "
		}
		want += key.Type() + " " + ssh.FingerprintSHA256(key)
	}
	return &failure.Error{
		Kind: failure.HostKey,
		Err: fmt.Errorf(
			"%w: it shows %s, but %s has %s: somebody may be in between, or it was reinstalled",
			ErrHostKeyChanged, shown, k.cfg.KnownHosts, want,
		),
		Hint: fmt.Sprintf(
			"only if it was reinstalled: ssh-keygen -f %s -R '%s'; %s", k.cfg.KnownHosts,
			knownhosts.Normalize(k.address), k.cfg.trustHint(),
		),
	}
}

// noKey is a public key that equals no other.
type noKey struct{}

func (noKey) Type() string                        { return "none" }
func (noKey) Marshal() []byte                     { return nil }
func (noKey) Verify([]byte, *ssh.Signature) error { return errors.New("no key") }
