package crypt

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"golang.org/x/crypto/ssh"

	"github.com/atocore/atobackupd/internal/failure"
)

// maxKeyFile bounds what is read of a file of recipients or identities, in
// bytes, so that a wrong path (a disk, a database) costs nothing.
const maxKeyFile = 1 << 20

// Recipients is a set of public keys: each of them alone opens what is sealed
// to the set. It never changes, and may be used by several goroutines at once.
type Recipients struct {
	keys     []age.Recipient // in the order of names
	names    []string        // canonical, sorted, each once
	warnings []string
}

// ParseRecipients reads public keys, one an element: age1… (X25519), age1pq…
// (hybrid post-quantum), ssh-ed25519 and ssh-rsa of 2048 bits or more. Empty
// elements and those that begin with # are passed over; a key that is listed
// twice counts once, with a warning.
//
// No key at all, a secret key, a key of another kind, and post-quantum beside
// classic keys are errors of kind Config. They number the element and never
// show it: it may be a secret that was pasted into the wrong place.
func ParseRecipients(lines []string) (*Recipients, error) {
	entries := make([]entry, len(lines))
	for i, line := range lines {
		entries[i] = entry{where: fmt.Sprintf("recipient %d", i+1), text: line}
	}
	return newRecipients(entries)
}

// LoadRecipients is ParseRecipients over the keys of inline and, unless file
// is "", those of a file with one key a line, as `age -R` takes it.
func LoadRecipients(inline []string, file string) (*Recipients, error) {
	var entries []entry
	for i, line := range inline {
		entries = append(entries, entry{where: fmt.Sprintf("recipient %d", i+1), text: line})
	}
	if file != "" {
		data, err := readKeyFile(file)
		if err != nil {
			return nil, recipientError("", err, "")
		}
		for i, line := range strings.Split(string(data), "\n") {
			entries = append(entries, entry{where: fmt.Sprintf("%s line %d", file, i+1), text: line})
		}
	}
	return newRecipients(entries)
}

// entry is one text that should be a recipient, and how to name it in errors.
type entry struct{ where, text string }

func newRecipients(entries []entry) (*Recipients, error) {
	r := &Recipients{}
	keys := make(map[string]age.Recipient)
	quantum := 0
	for _, e := range entries {
		text := strings.TrimSpace(e.text)
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		name, key, err := parseRecipient(e.where, text)
		if err != nil {
			return nil, err
		}
		if keys[name] != nil {
			r.warnings = append(r.warnings, e.where+" is listed already; it counts once")
			continue
		}
		keys[name] = key
		r.names = append(r.names, name)
		if _, ok := key.(*age.HybridRecipient); ok {
			quantum++
		}
	}
	if len(keys) == 0 {
		return nil, recipientError("", errors.New("there is none"),
			"give at least one public key (age1… or ssh-ed25519 …): nothing leaves in the clear")
	}
	if quantum != 0 && quantum != len(keys) {
		return nil, recipientError("", fmt.Errorf("%d of %d are post-quantum (age1pq…) and the others are not: "+
			"a file is only as strong as its weakest key, so age does not mix them", quantum, len(keys)),
			"use age1pq… keys for all, or for none")
	}
	slices.Sort(r.names)
	for _, name := range r.names {
		r.keys = append(r.keys, keys[name])
	}
	if len(keys) == 1 {
		r.warnings = append(
			r.warnings,
			"there is only one recipient: if its key is lost, so is every off-site snapshot; "+
				"add a second one and keep that key in a drawer",
		)
	}
	if err := r.try(); err != nil {
		return nil, err
	}
	return r, nil
}

// parseRecipient returns a key and its canonical text: the same key in another
// spelling (an ssh key with another comment) has the same one.
func parseRecipient(where, text string) (string, age.Recipient, error) {
	bad := func(why, hint string) (string, age.Recipient, error) {
		return "", nil, recipientError(where, errors.New(why), hint)
	}
	const publicHint = "put the public key here (age-keygen -y, or the .pub file) " +
		"and keep the secret one off this machine"
	upper := strings.ToUpper(text)
	switch {
	case strings.Contains(upper, "AGE-SECRET-KEY-"), strings.Contains(upper, "AGE-PLUGIN-"):
		return bad("this is an identity (a secret key), not a recipient", publicHint)
	case strings.Contains(upper, "-----BEGIN"), strings.Contains(upper, "PRIVATE KEY"):
		return bad("this is a private key or another PEM block, not a recipient", publicHint)
	case strings.ContainsAny(text, "\r\n"):
		return bad("it has more than one line", "write one key an element")
	case strings.HasPrefix(text, "age1pq1"):
		key, err := age.ParseHybridRecipient(text)
		if err != nil {
			return bad("it is not a whole post-quantum age key", "copy the line again")
		}
		return key.String(), key, nil
	case strings.HasPrefix(text, "age1") && strings.Count(text, "1") > 1:
		// bech32 uses "1" only between the prefix and the data, so a second
		// one means a longer prefix: age1yubikey1…, age1tag1….
		return bad("it belongs to an age plugin, which is not supported", "use an age1…, age1pq… or ssh key")
	case strings.HasPrefix(text, "age1"):
		key, err := age.ParseX25519Recipient(text)
		if err != nil {
			return bad("it is not a whole age key", "copy the line again")
		}
		return key.String(), key, nil
	case strings.HasPrefix(text, "ssh-"):
		return parseSSHRecipient(where, text)
	}
	return bad("it is no public key that age knows", "use an age1…, age1pq…, ssh-ed25519 or ssh-rsa key")
}

func parseSSHRecipient(where, text string) (string, age.Recipient, error) {
	pub, _, _, _, err := ssh.ParseAuthorizedKey([]byte(text))
	if err != nil {
		return "", nil, recipientError(
			where, errors.New("it is not a whole ssh public key"), "copy the line of the .pub file again",
		)
	}
	name := authorizedKey(pub)
	key, err := agessh.ParseRecipient(name)
	if err != nil {
		return "", nil, recipientError(where, fmt.Errorf("age cannot use this %s key", pub.Type()),
			"use ssh-ed25519, or ssh-rsa of at least 2048 bits")
	}
	return name, key, nil
}

// try seals nothing to nowhere: a key may parse and still be unusable (a point
// of low order), and that has to be known when the configuration is checked,
// not when the first backup leaves.
func (r *Recipients) try() error {
	if _, err := r.Seal(io.Discard); err != nil {
		return recipientError("", err, "replace the key")
	}
	return nil
}

// Seal returns a writer whose input arrives at dst as an age file. The file is
// whole only once Close has returned nil; Close does not close dst.
func (r *Recipients) Seal(dst io.Writer) (io.WriteCloser, error) {
	w, err := age.Encrypt(dst, r.keys...)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return w, nil
}

// Strings returns the keys in their canonical spelling, without comments,
// sorted. They are public, and tell who can open a file.
func (r *Recipients) Strings() []string { return slices.Clone(r.names) }

// Len returns the number of different keys, at least one.
func (r *Recipients) Len() int { return len(r.names) }

// Fingerprint names the set: 64 hexadecimal digits that depend on the keys but
// not on their order, comments or repetition. It changes when a key is added
// or removed.
func (r *Recipients) Fingerprint() string {
	sum := sha256.Sum256([]byte(strings.Join(r.names, "\n")))
	return hex.EncodeToString(sum[:])
}

// Warnings returns sentences for the operator about a set that works but is
// probably not what was wanted.
func (r *Recipients) Warnings() []string { return slices.Clone(r.warnings) }

func recipientError(subject string, err error, hint string) error {
	return &failure.Error{Op: "recipients", Subject: subject, Kind: failure.Config, Err: err, Hint: hint}
}

// readKeyFile reads a small file of keys whole. It may be a pipe.
func readKeyFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxKeyFile {
		return nil, fmt.Errorf("%s: larger than any file of keys", path)
	}
	// Editors on other systems begin a file with a byte order mark.
	return bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), nil
}
