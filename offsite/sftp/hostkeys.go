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
	callback  ssh.HostKeyCallback
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
// here: no key, no connection.
func readKnownHosts(file, address string, cfg Config) (*hostKeys, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, unknownHost(fmt.Sprintf("there is no %s", file), cfg)
	}
	if err != nil {
		return nil, &failure.Error{Kind: failure.Config, Err: fmt.Errorf("known_hosts: %w", err)}
	}
	lines := readableLines(data)
	callback, err := hostKeyCallback(lines)
	if err != nil {
		return nil, &failure.Error{Kind: failure.Config, Err: fmt.Errorf("known_hosts %s: %w", file, err)}
	}
	// Without their marker, authorities are listed like other keys.
	all, err := hostKeyCallback(bytes.ReplaceAll(lines, []byte("@cert-authority "), nil))
	if err != nil {
		return nil, &failure.Error{Kind: failure.Config, Err: fmt.Errorf("known_hosts %s: %w", file, err)}
	}
	host, _, _ := net.SplitHostPort(address)
	for _, lookup := range []string{address, net.JoinHostPort(host, "22")} {
		k := &hostKeys{callback: callback, lookup: lookup, address: address, cfg: cfg, known: wanted(callback, lookup)}
		k.authority = len(wanted(all, lookup)) > len(k.known)
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
	err := k.callback(k.lookup, remote, key)
	if err == nil {
		return nil
	}
	var revoked *knownhosts.RevokedError
	if errors.As(err, &revoked) {
		k.refused = &failure.Error{
			Kind: failure.HostKey, Err: fmt.Errorf("its host key %s is revoked", ssh.FingerprintSHA256(key)),
			Hint: k.cfg.trustHint(),
		}
	} else {
		k.refused = k.changed(key.Type() + " " + ssh.FingerprintSHA256(key))
	}
	return k.refused
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
