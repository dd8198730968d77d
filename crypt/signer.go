package crypt

import (
	"bytes"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"github.com/atocore/atobackupd/internal/failure"
)

const (
	// Namespace is the purpose that every signature names: one made for
	// anything else with the same key does not verify.
	Namespace = "atobackup-vault"

	signerComment = "atobackupd"

	// maxSignature is many times what an ed25519 signature takes, in bytes.
	maxSignature = 4096
)

// Signer holds the key that signs what this machine ships. It never changes,
// and may be used by several goroutines at once.
type Signer struct{ key ssh.Signer }

// LoadOrCreateSigner reads the ed25519 private key at path (OpenSSH's format,
// no passphrase), or makes it and path.pub when there is none: then created is true.
// Its directory must exist. A key that others may read is refused, as ssh does:
// it is what tells our snapshots from forged ones.
func LoadOrCreateSigner(path string) (signer *Signer, created bool, err error) {
	signer, err = loadSigner(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return signer, false, err
	}
	_, err = GenerateSSHKey(path, signerComment)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, false, err
	}
	created = err == nil // else another process was quicker, and its key is ours
	signer, err = loadSigner(path)
	return signer, created && err == nil, err
}

// LoadSigner reads the private key at path and never makes one: fs.ErrNotExist
// where there is none.
func LoadSigner(path string) (*Signer, error) { return loadSigner(path) }

func loadSigner(path string) (*Signer, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, signerError("", err, "")
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, signerError(
			path, fmt.Errorf("others than its owner may use it (mode %04o)", mode), "chmod 600 "+path,
		)
	}
	data, err := readKeyFile(path)
	if err != nil {
		return nil, signerError("", err, "")
	}
	raw, err := ssh.ParseRawPrivateKey(data)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		return nil, signerError(
			path, errors.New("a passphrase protects it, and backups run unattended"),
			"ssh-keygen -p -N '' -f "+path,
		)
	}
	private, ok := raw.(*ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, signerError(path, errors.New("it is not a whole ed25519 private key"),
			"put the right file back; a new key means that --signer changes for every reader of the vault")
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, signerError(path, errors.New("it is not a usable ed25519 private key"), "")
	}
	s := &Signer{key: key}
	// A crash between the two files, or a person, can have left it out.
	if _, err := os.Lstat(path + ".pub"); errors.Is(err, fs.ErrNotExist) {
		if err := writePublic(path, key.PublicKey(), signerComment); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// AuthorizedKey returns the public key as in authorized_keys, without a comment:
// "ssh-ed25519 AAAA…".
func (s *Signer) AuthorizedKey() string { return authorizedKey(s.key.PublicKey()) }

// Sign returns an armored SSHSIG signature of message under Namespace, with
// SHA-512, as ssh-keygen -Y verify reads it. The same message always has the
// same bytes.
func (s *Signer) Sign(message []byte) ([]byte, error) {
	sig, err := sshsig.Sign(bytes.NewReader(message), s.key, sshsig.HashSHA512, Namespace)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return sshsig.Armor(sig), nil
}

// Verify returns nil only when signature was made over message, under
// Namespace, by the ed25519 key signer ("ssh-ed25519 AAAA…", a comment is
// allowed). It is stricter than the format asks: SHA-512 only, and nothing
// before, after or inside the signature that is not signed.
func Verify(message, signature []byte, signer string) error {
	pub, err := parseSigner(signer)
	if err != nil {
		return err
	}
	sig, err := parseSignature(signature)
	if err != nil {
		return &failure.Error{Op: "verify signature", Err: err}
	}
	if sig.HashAlgorithm != sshsig.HashSHA512 {
		return signatureError("it is not made with sha512")
	}
	switch err := sshsig.Verify(bytes.NewReader(message), sig, pub, sshsig.HashSHA512, Namespace); {
	case errors.Is(err, sshsig.ErrPublicKeyMismatch):
		return signatureError("it was made by another key, " + ssh.FingerprintSHA256(sig.PublicKey) +
			", than the expected " + ssh.FingerprintSHA256(pub))
	case errors.Is(err, sshsig.ErrNamespaceMismatch):
		return signatureError("it was made for another purpose than " + Namespace)
	case err != nil:
		return signatureError("it does not belong to this text")
	}
	return nil
}

// ParseSigner checks a signer's public key as a person or a vault gives it and
// returns it as AuthorizedKey would.
func ParseSigner(s string) (string, error) {
	pub, err := parseSigner(s)
	if err != nil {
		return "", err
	}
	return authorizedKey(pub), nil
}

// parseSigner asks for the key type first, because ssh.ParseAuthorizedKey also
// takes options before the key and several lines.
func parseSigner(s string) (ssh.PublicKey, error) {
	s = strings.TrimSpace(s)
	if !strings.HasPrefix(s, ssh.KeyAlgoED25519+" ") || strings.ContainsAny(s, "\r\n") {
		return nil, signerError("", errors.New("the public key is not of the form ssh-ed25519 AAAA…"), "")
	}
	pub, _, _, _, err := ssh.ParseAuthorizedKey([]byte(s))
	if err != nil || pub.Type() != ssh.KeyAlgoED25519 {
		return nil, signerError("", errors.New("the public key is not a whole ssh-ed25519 key"), "copy the line again")
	}
	return pub, nil
}

// ErrDamagedSignature is wrapped by the error of a verification where what should be
// a signature has not the form of one: nobody can tell who made it.
var ErrDamagedSignature = errors.New("it is not a whole SSH signature")

// parseSignature accepts exactly one encoding of a signature: PEM readers skip
// foreign text around a block, and the wire format has fields that nothing
// signs.
func parseSignature(armored []byte) (*sshsig.Signature, error) {
	if len(armored) > maxSignature || !bytes.HasPrefix(armored, []byte("-----BEGIN "+sshsig.PEMType+"-----")) {
		return nil, ErrDamagedSignature
	}
	block, rest := pem.Decode(armored)
	if block == nil || block.Type != sshsig.PEMType || len(block.Headers) != 0 || len(bytes.TrimSpace(rest)) != 0 {
		return nil, ErrDamagedSignature
	}
	sig, err := sshsig.ParseSignature(block.Bytes)
	if err != nil || len(sig.Signature.Rest) != 0 || !bytes.Equal(sig.Marshal(), block.Bytes) {
		return nil, ErrDamagedSignature
	}
	return sig, nil
}

func authorizedKey(pub ssh.PublicKey) string {
	return strings.TrimSuffix(string(ssh.MarshalAuthorizedKey(pub)), "\n")
}

func signerError(subject string, err error, hint string) error {
	return &failure.Error{Op: "signer", Subject: subject, Err: err, Hint: hint}
}

func signatureError(why string) error {
	return &failure.Error{Op: "verify signature", Err: errors.New(why)}
}
