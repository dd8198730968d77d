package crypt

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
)

// GenerateIdentity makes an age X25519 key pair: the secret key
// (AGE-SECRET-KEY-1…) and the public one (age1…).
func GenerateIdentity() (identity, recipient string, err error) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		return "", "", fmt.Errorf("generate an age identity: %w", err)
	}
	return key.String(), key.Recipient().String(), nil
}

// WriteIdentity makes an age X25519 key pair, writes the secret key to path as
// age-keygen does, readable by its owner only, and returns the public key. An
// existing file is never replaced: the error is then fs.ErrExist. nil means
// that the file survives a power cut.
func WriteIdentity(path string) (recipient string, err error) {
	identity, recipient, err := GenerateIdentity()
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf("# created: %s\n# public key: %s\n%s\n", time.Now().Format(time.RFC3339), recipient, identity)
	if err := writeNew(path, []byte(text)); err != nil {
		return "", keyFileError("write identity", path, err)
	}
	return recipient, nil
}

// GenerateSSHKey makes an ed25519 key pair as ssh-keygen does: the private key
// without a passphrase in path, readable by its owner only, and the public one
// in path.pub. It returns the public key, without the comment. An existing
// private key is never replaced (fs.ErrExist); a path.pub without one is. nil
// means that both files survive a power cut.
func GenerateSSHKey(path, comment string) (authorized string, err error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", fmt.Errorf("generate an ssh key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(private, comment)
	if err != nil {
		return "", fmt.Errorf("generate an ssh key: %w", err)
	}
	pub, err := ssh.NewPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("generate an ssh key: %w", err)
	}
	if err := writeNew(path, pem.EncodeToMemory(block)); err != nil {
		return "", keyFileError("write ssh key", path, err)
	}
	if err := writePublic(path, pub, comment); err != nil {
		return "", err
	}
	return authorizedKey(pub), nil
}

func writePublic(path string, pub ssh.PublicKey, comment string) error {
	line := authorizedKey(pub) + " " + comment + "\n"
	if err := fsx.WriteFile(path+".pub", []byte(line), 0o644); err != nil {
		return fmt.Errorf("write ssh key: %w", err)
	}
	return nil
}

// keyFileError adds what to do about a key that is there already.
func keyFileError(op, path string, err error) error {
	hint := ""
	if errors.Is(err, fs.ErrExist) {
		hint = "keep it, or move it away first: what was sealed or signed with it needs it"
	}
	return &failure.Error{Op: op, Subject: path, Err: err, Hint: hint}
}

// writeNew creates path with data, mode 0600. It never replaces (fs.ErrExist),
// and no interruption leaves part of a key under path: the bytes are durable
// under another name before they get this one.
func writeNew(path string, data []byte) (err error) {
	temp := path + "." + rand.Text() + ".tmp"
	defer func() {
		if err != nil {
			os.Remove(temp)
		}
	}()
	if err := fsx.WriteFile(temp, data, 0o600); err != nil {
		return err
	}
	return fsx.RenameNoReplace(temp, path)
}
