package crypt_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/atocore/atobackupd/crypt"
)

// keyPair is one recipient and the file with its secret key.
type keyPair struct{ recipient, file string }

func x25519Pair(t testing.TB) keyPair {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key.txt")
	recipient, err := crypt.WriteIdentity(path)
	if err != nil {
		t.Fatal(err)
	}
	return keyPair{recipient, path}
}

func quantumPair(t testing.TB) keyPair {
	t.Helper()
	key, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return keyPair{key.Recipient().String(), writeFile(t, "pq.txt", key.String()+"\n")}
}

// sshPair asks OpenSSH's own program, so that its format is the real one.
func sshPair(t testing.TB, kind, passphrase string) keyPair {
	t.Helper()
	path := filepath.Join(t.TempDir(), "id")
	run(t, "", "ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "somebody@somewhere", "-f", path)
	return keyPair{strings.TrimSpace(readFile(t, path+".pub")), path}
}

func seal(t testing.TB, recipients []string, plain []byte) []byte {
	t.Helper()
	r, err := crypt.ParseRecipients(recipients)
	if err != nil {
		t.Fatal(err)
	}
	var sealed bytes.Buffer
	w, err := r.Seal(&sealed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return sealed.Bytes()
}

func load(t testing.TB, path string) crypt.Identities {
	t.Helper()
	ids, err := crypt.LoadIdentities(path)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func run(t testing.TB, stdin, name string, args ...string) string {
	t.Helper()
	out, err := try(stdin, name, args...)
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return out
}

func try(stdin, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		return stderr.String(), err
	}
	return stdout.String(), nil
}

func writeFile(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// checkSecret fails when an error shows eight characters in a row of secret.
func checkSecret(t testing.TB, err error, secret string) {
	t.Helper()
	for i := 0; i+8 <= len(secret); i++ {
		if part := secret[i : i+8]; strings.Contains(err.Error(), part) {
			t.Fatalf("the error shows %q of the secret", part)
		}
	}
}

// checkError wants an error that says all of want.
func checkError(t testing.TB, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", want)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}
