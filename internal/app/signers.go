package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
)

// A reader's own notes about vaults lie with the reader, never in the vault:
//
//	signers        VAULT_ID ssh-ed25519 AAAA…   whom it believes, the first one pinned at first use
//	trusted-times  VAULT_ID 2026-11-27T16:00:00Z  what lay there by then arrived in time
const (
	signersFile = "signers"
	timesFile   = "trusted-times"
)

// readerDir is where whoever runs this keeps such notes.
func readerDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/atobackupd", nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "atobackupd"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", &failure.Error{Op: "signers", Kind: failure.Config, Err: err, Hint: "set XDG_STATE_HOME"}
	}
	return filepath.Join(home, ".local", "state", "atobackupd"), nil
}

// notes returns what a file of notes says about a vault, in order.
func notes(file, vaultID string) (values []string, err error) {
	dir, err := readerDir()
	if err != nil {
		return nil, err
	}
	return notesIn(dir, file, vaultID)
}

func notesIn(dir, file, vaultID string) (values []string, err error) {
	data, err := os.ReadFile(filepath.Join(dir, file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		id, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if ok && id == vaultID {
			values = append(values, strings.TrimSpace(value))
		}
	}
	return values, nil
}

// addNote adds a line about a vault, once.
func addNote(file, vaultID, value string) error {
	dir, err := readerDir()
	if err != nil {
		return err
	}
	return addNoteIn(dir, file, vaultID, value)
}

// notePatience is how long a note waits for another one that is being written.
const notePatience = 10 * time.Second

// addNoteIn adds a line to a file of notes. Two commands at once add both of
// theirs: a signer whose line was lost would be the vault's own word once more.
func addNoteIn(dir, file, vaultID, value string) (err error) {
	if err := fsx.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	lockPath := filepath.Join(dir, file+".lock")
	lock, err := fsx.LockFile(context.Background(), lockPath, "a note about a vault", notePatience, nil)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	known, err := notesIn(dir, file, vaultID)
	if err != nil || slices.Contains(known, value) {
		return err
	}
	path := filepath.Join(dir, file)
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(data) > 0 && data[len(data)-1] != '\n' {
		data = append(data, '\n')
	}
	return fsx.WriteFile(path, fmt.Appendf(data, "%s %s\n", vaultID, value), 0o600)
}

// ReaderSigners returns the signers of a vault that this reader believes.
func ReaderSigners(vaultID string) (crypt.Signers, error) {
	keys, err := notes(signersFile, vaultID)
	if err != nil {
		return nil, err
	}
	return crypt.ParseSigners(keys)
}

// AddReaderSigner allows another key beside those that the reader believes.
func AddReaderSigner(vaultID, key string) error {
	key, err := crypt.ParseSigner(key)
	if err != nil {
		return &failure.Error{Op: "vault signer", Kind: failure.Usage, Err: err}
	}
	return addNote(signersFile, vaultID, key)
}

// TrustTimes says that everything that lies in a vault by now arrived in time.
func TrustTimes(vaultID string, now time.Time) error {
	return addNote(timesFile, vaultID, now.UTC().Format(time.RFC3339))
}

// trustedTimes returns the latest time by which everything in a vault is said to
// have arrived in time.
func trustedTimes(vaultID string) (latest time.Time, err error) {
	values, err := notes(timesFile, vaultID)
	for _, value := range values {
		if at, err := time.Parse(time.RFC3339, value); err == nil && at.After(latest) {
			latest = at
		}
	}
	return latest, err
}
