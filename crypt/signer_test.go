package crypt_test

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/atocore/atobackupd/crypt"
)

const message = "0123abcd  packs/20260407T060000Z-0a1b2c-000000.age\n"

func newSigner(t testing.TB) (signer *crypt.Signer, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "signing_key")
	signer, created, err := crypt.LoadOrCreateSigner(path)
	if err != nil || !created {
		t.Fatalf("created %v, %v", created, err)
	}
	return signer, path
}

func sign(t testing.TB, signer *crypt.Signer, text string) []byte {
	t.Helper()
	sig, err := signer.Sign([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// sshSign signs the message as OpenSSH does.
func sshSign(t testing.TB, key, namespace, hash string) []byte {
	t.Helper()
	file := writeFile(t, "message", message)
	run(t, "", "ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", namespace, "-O", "hashalg="+hash, file)
	return []byte(readFile(t, file+".sig"))
}

func TestSignerIsMadeOnce(t *testing.T) {
	signer, path := newSigner(t)
	again, created, err := crypt.LoadOrCreateSigner(path)
	if err != nil || created || again.AuthorizedKey() != signer.AuthorizedKey() {
		t.Fatalf("created %v, %v", created, err)
	}
	if !bytes.Equal(sign(t, signer, message), sign(t, again, message)) {
		t.Error("the same text got two signatures")
	}
	checkOnlyFiles(t, filepath.Dir(path), "signing_key", "signing_key.pub")
	for file, mode := range map[string]os.FileMode{path: 0o600, path + ".pub": 0o644} {
		if info, err := os.Stat(file); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v", file, info.Mode(), err)
		}
	}
	if got := readFile(t, path+".pub"); got != signer.AuthorizedKey()+" atobackupd\n" {
		t.Errorf(".pub is %q", got)
	}
	// A crash between the two files leaves only the first.
	if err := os.Remove(path + ".pub"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := crypt.LoadOrCreateSigner(path); err != nil ||
		readFile(t, path+".pub") != signer.AuthorizedKey()+" atobackupd\n" {
		t.Errorf(".pub did not come back: %v", err)
	}
}

func TestSignerIsMadeOnceByMany(t *testing.T) {
	path := filepath.Join(t.TempDir(), "signing_key")
	var made atomic.Int32
	keys := make([]string, 8)
	var group sync.WaitGroup
	for i := range keys {
		group.Go(func() {
			signer, created, err := crypt.LoadOrCreateSigner(path)
			if err != nil {
				t.Error(err)
				return
			}
			if created {
				made.Add(1)
			}
			keys[i] = signer.AuthorizedKey()
		})
	}
	group.Wait()
	for _, key := range keys {
		if key != keys[0] || made.Load() != 1 {
			t.Fatalf("%d made a key, and they hold %q", made.Load(), keys)
		}
	}
	if !strings.HasPrefix(readFile(t, path+".pub"), keys[0]) {
		t.Error(".pub belongs to another key")
	}
}

func TestOpenSSHReadsOurKeysAndSignatures(t *testing.T) {
	signer, path := newSigner(t)
	if out := run(t, "", "ssh-keygen", "-l", "-f", path); !strings.HasPrefix(out, "256 SHA256:") ||
		!strings.Contains(out, "atobackupd (ED25519)") {
		t.Errorf("ssh-keygen -l: %s", out)
	}
	if out := run(t, "", "ssh-keygen", "-y", "-f", path); out != signer.AuthorizedKey()+" atobackupd\n" {
		t.Errorf("ssh-keygen -y: %s", out)
	}
	allowed := writeFile(t, "allowed_signers", `atobackupd namespaces="atobackup-vault" `+signer.AuthorizedKey()+"\n")
	sig := writeFile(t, "sig", string(sign(t, signer, message)))
	verify := []string{"-Y", "verify", "-f", allowed, "-I", "atobackupd", "-n", crypt.Namespace, "-s", sig}
	run(t, message, "ssh-keygen", verify...)
	if out, err := try(message+"x", "ssh-keygen", verify...); err == nil {
		t.Errorf("ssh-keygen accepts another text: %s", out)
	}
	if err := crypt.Verify(
		[]byte(message), sshSign(t, path, crypt.Namespace, "sha512"), signer.AuthorizedKey(),
	); err != nil {
		t.Errorf("a signature by ssh-keygen: %v", err)
	}
}

func TestGenerateSSHKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "id_ed25519")
	if err := os.WriteFile(path+".pub", []byte("left over"), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := crypt.GenerateSSHKey(path, "atobackupd@dalidou")
	if err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, path+".pub"); got != key+" atobackupd@dalidou\n" {
		t.Errorf(".pub is %q", got)
	}
	if out := run(t, "", "ssh-keygen", "-y", "-f", path); out != key+" atobackupd@dalidou\n" {
		t.Errorf("ssh-keygen reads %s", out)
	}
	before := readFile(t, path)
	if _, err := crypt.GenerateSSHKey(path, "again"); !errors.Is(err, os.ErrExist) || readFile(t, path) != before {
		t.Errorf("an existing key: %v", err)
	}
	if got := readFile(t, path+".pub"); got != key+" atobackupd@dalidou\n" {
		t.Errorf("a refusal changed .pub to %q", got)
	}
}

func TestVerifyRefuses(t *testing.T) {
	signer, path := newSigner(t)
	other, otherPath := newSigner(t)
	good, key := sign(t, signer, message), signer.AuthorizedKey()
	for name, c := range map[string]struct {
		text, signer string
		signature    []byte
		says         string
	}{
		"another text":      {message + "x", key, good, "does not belong to this text"},
		"no text":           {"", key, good, "does not belong to this text"},
		"another key":       {message, other.AuthorizedKey(), good, "another key"},
		"a forger's":        {message, key, sign(t, other, message), "another key"},
		"forged by OpenSSH": {message, key, sshSign(t, otherPath, crypt.Namespace, "sha512"), "another key"},
		"another purpose":   {message, key, sshSign(t, path, "file", "sha512"), "another purpose"},
		"another hash":      {message, key, sshSign(t, path, crypt.Namespace, "sha256"), "sha512"},
		"nothing":           {message, key, nil, "not a whole SSH signature"},
		"half":              {message, key, good[:len(good)/2], "not a whole SSH signature"},
		"text before":       {message, key, append([]byte("x\n"), good...), "not a whole SSH signature"},
		"text after":        {message, key, append(bytes.Clone(good), good...), "not a whole SSH signature"},
		"a header": {
			message, key, bytes.Replace(good, []byte("-----\n"), []byte("-----\nA: b\n\n"), 1),
			"not a whole SSH signature",
		},
		"much": {
			message, key, append(bytes.Clone(good), bytes.Repeat([]byte("\n"), 1<<20)...),
			"not a whole SSH signature",
		},
		"a rider":         {message, key, rider(good), "not a whole SSH signature"},
		"a reserved word": {message, key, reserved(good), "not a whole SSH signature"},
		"a private key":   {message, key, []byte(readFile(t, path)), "not a whole SSH signature"},
		"no signer":       {message, "", good, "not of the form ssh-ed25519"},
		"options":         {message, `namespaces="file" ` + key, good, "not of the form ssh-ed25519"},
		"two signers":     {message, key + "\n" + other.AuthorizedKey(), good, "not of the form ssh-ed25519"},
		"a cut signer":    {message, key[:40], good, "not a whole ssh-ed25519 key"},
		"a signer in RSA": {message, sshPair(t, "rsa", "").recipient, good, "not of the form ssh-ed25519"},
		"RSA under the name": {
			message, "ssh-ed25519 " + strings.Fields(sshPair(t, "rsa", "").recipient)[1], good,
			"not a whole ssh-ed25519 key",
		},
	} {
		t.Run(name, func(t *testing.T) {
			checkError(t, crypt.Verify([]byte(c.text), c.signature, c.signer), c.says)
		})
	}
	if err := crypt.Verify([]byte(message), good, "  "+key+" a comment\n"); err != nil {
		t.Errorf("a comment on the signer: %v", err)
	}
	if got, err := crypt.ParseSigner(" " + key + " a comment\n"); err != nil || got != key {
		t.Errorf("ParseSigner gives %q, %v", got, err)
	}
	if got, err := crypt.ParseSigner("ecdsa"); err == nil || got != "" {
		t.Errorf("ParseSigner gives %q, %v", got, err)
	}
}

// Every bit of a signature counts: none can be turned without a refusal.
func TestVerifyRefusesEveryTurnedBit(t *testing.T) {
	signer, _ := newSigner(t)
	block, _ := pem.Decode(sign(t, signer, message))
	for i := range block.Bytes {
		for bit := range 8 {
			block.Bytes[i] ^= 1 << bit
			if err := crypt.Verify([]byte(message), pem.EncodeToMemory(block), signer.AuthorizedKey()); err == nil {
				t.Fatalf("bit %d of byte %d was turned and the signature verifies", bit, i)
			}
			block.Bytes[i] ^= 1 << bit
		}
	}
	if err := crypt.Verify([]byte(message), pem.EncodeToMemory(block), signer.AuthorizedKey()); err != nil {
		t.Fatal(err)
	}
}

func TestSignerFilesThatAreRefused(t *testing.T) {
	_, path := newSigner(t)
	text := readFile(t, path)
	for name, c := range map[string]struct{ text, says string }{
		"empty":        {"", "not a whole ed25519"},
		"cut":          {text[:150], "not a whole ed25519"},
		"RSA":          {readFile(t, sshPair(t, "rsa", "").file), "not a whole ed25519"},
		"a passphrase": {readFile(t, sshPair(t, "ed25519", "correct horse").file), "passphrase"},
	} {
		t.Run(name, func(t *testing.T) {
			file := writeFile(t, "signing_key", c.text)
			_, created, err := crypt.LoadOrCreateSigner(file)
			checkError(t, err, file, c.says)
			if created || readFile(t, file) != c.text {
				t.Error("the file was replaced")
			}
			for _, line := range strings.Split(text, "\n")[1:6] {
				checkSecret(t, err, line)
			}
		})
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	_, _, err := crypt.LoadOrCreateSigner(path)
	checkError(t, err, path, "mode 0640", "chmod 600")
	_, _, err = crypt.LoadOrCreateSigner(filepath.Join(t.TempDir(), "absent", "key"))
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing directory: %v", err)
	}
}

// rider puts bytes that nothing signs after the signature proper, where the
// wire format would let hardware keys write theirs.
func rider(armored []byte) []byte {
	block, _ := pem.Decode(armored)
	const signatureField = 4 + len("\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x40") + 64
	at := len(block.Bytes) - signatureField
	block.Bytes[at+3] += 4
	block.Bytes = append(block.Bytes, 1, 2, 3, 4)
	return pem.EncodeToMemory(block)
}

// reserved fills the field of the wire format that is kept for later, and that our
// check of the signature takes for empty.
func reserved(armored []byte) []byte {
	block, _ := pem.Decode(armored)
	at := bytes.Index(block.Bytes, []byte(crypt.Namespace)) + len(crypt.Namespace)
	block.Bytes = slices.Concat(block.Bytes[:at], []byte{0, 0, 0, 1, 'x'}, block.Bytes[at+4:])
	return pem.EncodeToMemory(block)
}

func FuzzVerify(f *testing.F) {
	signer, _ := newSigner(f)
	good := sign(f, signer, message)
	block, _ := pem.Decode(good)
	f.Add([]byte(message), good)
	f.Add([]byte{}, good)
	f.Add([]byte(message), good[:100])
	f.Add([]byte(message), rider(good))
	cut := base64.StdEncoding.EncodeToString(block.Bytes[:40])
	f.Add([]byte(message), []byte("-----BEGIN SSH SIGNATURE-----\n"+cut+"\n-----END SSH SIGNATURE-----\n"))
	f.Fuzz(func(t *testing.T, text, signature []byte) {
		if crypt.Verify(text, signature, signer.AuthorizedKey()) != nil {
			return
		}
		decoded, _ := pem.Decode(signature)
		if string(text) != message || !bytes.Equal(decoded.Bytes, block.Bytes) {
			t.Fatalf("forged: %q under %q", text, signature)
		}
	})
}
