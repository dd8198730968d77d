package crypt

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"filippo.io/age/armor"
	"golang.org/x/crypto/ssh"

	"github.com/atocore/atobackupd/internal/failure"
)

func parseIdentityFile(path string, data []byte, passphrase func() ([]byte, error)) ([]age.Identity, error) {
	trimmed := bytes.TrimSpace(data)
	switch {
	case IsHeader(data):
		return openIdentityFile(path, bytes.NewReader(data), passphrase)
	case bytes.HasPrefix(trimmed, []byte(armor.Header)):
		return openIdentityFile(path, armor.NewReader(bytes.NewReader(trimmed)), passphrase)
	case bytes.HasPrefix(trimmed, []byte("-----BEGIN")):
		return parseSSHIdentity(path, data, passphrase)
	}
	return parseIdentityLines(path, data)
}

// openIdentityFile decrypts a file of identities that is itself an age file.
// It does so at once rather than at the first use: the answer to a wrong
// passphrase belongs at the start of a restore, and several goroutines may
// open files later.
func openIdentityFile(path string, r io.Reader, passphrase func() ([]byte, error)) ([]age.Identity, error) {
	secret, err := askPassphrase(path, passphrase, "decrypt it first: age -d "+path+" > key.txt")
	if err != nil {
		return nil, err
	}
	key, err := age.NewScryptIdentity(string(secret))
	if err != nil {
		return nil, identityError(path, errors.New("the passphrase is empty"), "")
	}
	plain, err := age.Decrypt(r, key)
	if err != nil {
		why := errors.New("it is damaged, or not encrypted with a passphrase")
		var noMatch *age.NoIdentityMatchError
		if errors.As(err, &noMatch) && slices.Contains(noMatch.StanzaTypes, "scrypt") {
			why = errors.New("the passphrase is wrong")
		}
		return nil, identityError(path, why, "")
	}
	data, err := io.ReadAll(io.LimitReader(plain, maxKeyFile))
	if err != nil {
		return nil, identityError(path, errors.New("it is damaged"), "")
	}
	return parseIdentityLines(path, data)
}

func parseIdentityLines(path string, data []byte) ([]age.Identity, error) {
	var keys []age.Identity
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, why := parseIdentity(line)
		if why != "" {
			return nil, identityError(fmt.Sprintf("%s line %d", path, i+1), errors.New(why),
				"give the file that age-keygen wrote, or an OpenSSH private key")
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, identityError(path, errors.New("it holds no secret key"),
			"give the file that age-keygen wrote, or an OpenSSH private key")
	}
	return keys, nil
}

// parseIdentity returns the reason in words of our own, never age's: they could
// quote the line.
func parseIdentity(line string) (age.Identity, string) {
	var key age.Identity
	var err error
	switch {
	case strings.HasPrefix(line, "AGE-SECRET-KEY-1"):
		key, err = age.ParseX25519Identity(line)
	case strings.HasPrefix(line, "AGE-SECRET-KEY-PQ-1"):
		key, err = age.ParseHybridIdentity(line)
	case strings.HasPrefix(line, "AGE-PLUGIN-"):
		return nil, "it belongs to an age plugin, which is not supported"
	case strings.HasPrefix(line, "age1"), strings.HasPrefix(line, "ssh-"):
		return nil, "this is a recipient (a public key); only the secret key opens files"
	default:
		return nil, "it is no secret key that age knows"
	}
	if err != nil {
		return nil, "it is not a whole age secret key"
	}
	return key, ""
}

func parseSSHIdentity(path string, data []byte, passphrase func() ([]byte, error)) ([]age.Identity, error) {
	raw, err := ssh.ParseRawPrivateKey(data)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		secret, askErr := askPassphrase(
			path, passphrase, "copy it and take the passphrase off the copy: ssh-keygen -p -N '' -f COPY",
		)
		if askErr != nil {
			return nil, askErr
		}
		raw, err = ssh.ParseRawPrivateKeyWithPassphrase(data, secret)
		if errors.Is(err, x509.IncorrectPasswordError) {
			return nil, identityError(path, errors.New("the passphrase is wrong"), "")
		}
	}
	if err != nil {
		return nil, identityError(path, errors.New("it is not a whole private key"),
			"give the file that age-keygen wrote, or an OpenSSH private key")
	}
	var key age.Identity
	switch raw := raw.(type) {
	case *ed25519.PrivateKey:
		key, err = agessh.NewEd25519Identity(*raw)
	case ed25519.PrivateKey: // what a PKCS #8 file holds
		key, err = agessh.NewEd25519Identity(raw)
	case *rsa.PrivateKey:
		key, err = agessh.NewRSAIdentity(raw)
	default:
		err = errors.New("neither ed25519 nor RSA")
	}
	if err != nil {
		return nil, identityError(path, errors.New("age cannot use this kind of ssh key"), "use an ed25519 or RSA key")
	}
	return []age.Identity{key}, nil
}

func askPassphrase(path string, passphrase func() ([]byte, error), hint string) ([]byte, error) {
	if passphrase == nil {
		return nil, identityError(path, errors.New("a passphrase protects it, and nobody can be asked"), hint)
	}
	secret, err := passphrase()
	if err != nil {
		return nil, identityError(path, fmt.Errorf("ask for the passphrase: %w", err), hint)
	}
	return secret, nil
}

// identityError is of kind Usage: somebody named the file on a command line.
func identityError(subject string, err error, hint string) error {
	kind := failure.Usage
	if errors.Is(err, fs.ErrNotExist) {
		kind = failure.NotFound
	}
	return &failure.Error{Op: "identity", Subject: subject, Kind: kind, Err: err, Hint: hint}
}
