package crypt

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"filippo.io/age"

	"github.com/atocore/atobackupd/internal/failure"
)

// Identities are secret keys that open age files. The value never changes, and
// may be used by several goroutines at once. The zero value opens nothing.
type Identities struct {
	path     string
	keys     []age.Identity
	warnings []string
}

// LoadIdentities reads the secret keys of a file: age identities, one a line
// with # comments, or one OpenSSH private key (ed25519 or RSA). A file that a
// passphrase protects is an error that says how to go on; see
// LoadIdentitiesWithPassphrase. No error holds any part of the file.
func LoadIdentities(path string) (Identities, error) {
	return LoadIdentitiesWithPassphrase(path, nil)
}

// LoadIdentitiesWithPassphrase is LoadIdentities for files that may be
// protected by a passphrase: age files made with a passphrase (binary or
// armored) and encrypted OpenSSH keys. It calls passphrase at most once, and
// only when the file needs one; nil means that nobody can be asked.
func LoadIdentitiesWithPassphrase(path string, passphrase func() ([]byte, error)) (Identities, error) {
	data, err := readKeyFile(path)
	if err != nil {
		return Identities{}, identityError("", err, "name the file of the secret key")
	}
	keys, err := parseIdentityFile(path, data, passphrase)
	if err != nil {
		return Identities{}, err
	}
	return Identities{path: path, keys: keys, warnings: permissionWarnings(path)}, nil
}

func permissionWarnings(path string) []string {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	return []string{fmt.Sprintf(
		"%s may be used by others than its owner (mode %04o): chmod 600 %s", path, info.Mode().Perm(), path,
	)}
}

// Warnings returns sentences for the operator about how the file is kept.
func (i Identities) Warnings() []string { return slices.Clone(i.warnings) }

// Open returns the content of the age file r. The content is proven piece by
// piece (64 KiB), so what was read is genuine; that the file is whole is known
// only when Read has returned io.EOF and no other error.
func (i Identities) Open(r io.Reader) (io.Reader, error) {
	plain, err := age.Decrypt(r, i.keys...)
	if err == nil {
		return plain, nil
	}
	var noMatch *age.NoIdentityMatchError
	if errors.As(err, &noMatch) {
		return nil, &failure.Error{Op: "decrypt", Err: fmt.Errorf("no key of %s opens it", i.path),
			Hint: fmt.Sprintf("it has %s (%s): give the identity of one of them",
				count(len(noMatch.StanzaTypes), "recipient"), kinds(noMatch.StanzaTypes))}
	}
	return nil, &failure.Error{Op: "decrypt", Err: err}
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// kinds names each kind once, and no more than a few: whoever wrote the file
// chose them.
func kinds(stanzas []string) string {
	stanzas = slices.Compact(slices.Sorted(slices.Values(stanzas)))
	if len(stanzas) > 8 {
		stanzas = append(stanzas[:8], "…")
	}
	return strings.Join(stanzas, ", ")
}
