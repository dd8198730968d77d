package sftp

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/atocore/atobackupd/internal/failure"
)

// hostKeys is what known_hosts says about one host.
type hostKeys struct {
	callback ssh.HostKeyCallback
	address  string
	known    []ssh.PublicKey
	cfg      Config
	refused  *failure.Error // why check said no
}

// readKnownHosts reads the keys of address, also from hashed lines. A host
// without any is refused here: no key, no connection.
func readKnownHosts(file, address string, cfg Config) (*hostKeys, error) {
	callback, err := knownhosts.New(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, unknownHost(fmt.Sprintf("its host key is unknown: there is no %s", file), cfg)
	}
	if err != nil {
		return nil, &failure.Error{Kind: failure.Config, Err: fmt.Errorf("known_hosts: %w", err)}
	}
	k := &hostKeys{callback: callback, address: address, cfg: cfg}
	// A key that fits nothing makes the library list the ones that would.
	var keyErr *knownhosts.KeyError
	if err := callback(address, &net.TCPAddr{IP: net.IPv4zero}, noKey{}); errors.As(err, &keyErr) {
		for _, want := range keyErr.Want {
			k.known = append(k.known, want.Key)
		}
	}
	if len(k.known) == 0 {
		return nil, unknownHost(fmt.Sprintf("its host key is unknown: %s has no line for %s", file, knownhosts.Normalize(address)), cfg)
	}
	return k, nil
}

func unknownHost(text string, cfg Config) error {
	return &failure.Error{Kind: failure.HostKey, Err: errors.New(text), Hint: cfg.trustHint()}
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
	slices.Sort(names)
	return slices.Compact(names)
}

// check accepts a known key and remembers why it refused another.
func (k *hostKeys) check(address string, remote net.Addr, key ssh.PublicKey) error {
	err := k.callback(address, remote, key)
	if err == nil {
		return nil
	}
	var revoked *knownhosts.RevokedError
	if errors.As(err, &revoked) {
		k.refused = &failure.Error{Kind: failure.HostKey, Err: fmt.Errorf("its host key %s is revoked", ssh.FingerprintSHA256(key)), Hint: k.cfg.trustHint()}
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
		Err:  fmt.Errorf("HOST KEY CHANGED: it shows %s, but %s has %s: somebody may be in between, or it was reinstalled", shown, k.cfg.KnownHosts, want),
		Hint: fmt.Sprintf("only if it was reinstalled: ssh-keygen -f %s -R '%s'; %s", k.cfg.KnownHosts, knownhosts.Normalize(k.address), k.cfg.trustHint()),
	}
}

// noKey is a public key that equals no other.
type noKey struct{}

func (noKey) Type() string                        { return "none" }
func (noKey) Marshal() []byte                     { return nil }
func (noKey) Verify([]byte, *ssh.Signature) error { return errors.New("no key") }
