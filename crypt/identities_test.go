package crypt_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"
	"golang.org/x/crypto/ssh"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/failure"
)

func answer(passphrase string) func() ([]byte, error) {
	return func() ([]byte, error) { return []byte(passphrase), nil }
}

func TestIdentityFileWithSeveralKeys(t *testing.T) {
	one, two, quantum := x25519Pair(t), x25519Pair(t), quantumPair(t)
	file := writeFile(
		t, "all.txt",
		"# mine\r\n"+secretLine(t, one.file)+"\r\n\n"+secretLine(t, two.file)+"\n"+secretLine(t, quantum.file),
	)
	ids := load(t, file)
	for _, pair := range []keyPair{one, two, quantum} {
		if got, err := open(ids, seal(t, []string{pair.recipient}, []byte("x"))); err != nil || string(got) != "x" {
			t.Errorf("%q, %v", got, err)
		}
	}
}

func TestIdentityBehindAPassphrase(t *testing.T) {
	pair := x25519Pair(t)
	secret := secretLine(t, pair.file)
	binary := lock(t, secret+"\n", false)
	for name, file := range map[string]struct{ pair keyPair }{
		"age file":    {keyPair{pair.recipient, writeFile(t, "key.age", binary)}},
		"armored":     {keyPair{pair.recipient, writeFile(t, "key.age", lock(t, secret+"\n", true))}},
		"ssh-ed25519": {sshPair(t, "ed25519", "correct horse")},
		"ssh-rsa":     {sshPair(t, "rsa", "correct horse")},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := crypt.LoadIdentities(file.pair.file)
			checkError(t, err, file.pair.file, "passphrase", "nobody can be asked")

			_, err = crypt.LoadIdentitiesWithPassphrase(file.pair.file, answer("wrong guess!"))
			checkError(t, err, "the passphrase is wrong")
			checkSecret(t, err, "wrong guess!")

			hung := errors.New("the terminal is gone")
			_, err = crypt.LoadIdentitiesWithPassphrase(file.pair.file, func() ([]byte, error) { return nil, hung })
			if !errors.Is(err, hung) {
				t.Errorf("the reason is lost: %v", err)
			}

			asked := 0
			ids, err := crypt.LoadIdentitiesWithPassphrase(file.pair.file, func() ([]byte, error) {
				asked++
				return []byte("correct horse"), nil
			})
			if err != nil || asked != 1 {
				t.Fatalf("asked %d times: %v", asked, err)
			}
			if got, err := open(ids, seal(t, []string{file.pair.recipient}, []byte("x"))); err != nil ||
				string(got) != "x" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}

	_, err := crypt.LoadIdentitiesWithPassphrase(writeFile(t, "key.age", binary), answer(""))
	checkError(t, err, "empty")
	_, err = crypt.LoadIdentitiesWithPassphrase(
		writeFile(t, "key.age", binary[:len(binary)-1]), answer("correct horse"),
	)
	checkError(t, err, "damaged")
	_, err = crypt.LoadIdentitiesWithPassphrase(
		writeFile(t, "pack.age", string(seal(t, []string{pair.recipient}, nil))), answer("correct horse"),
	)
	checkError(t, err, "not encrypted with a passphrase")
	never := func() ([]byte, error) { panic("asked for nothing") }
	if _, err := crypt.LoadIdentitiesWithPassphrase(pair.file, never); err != nil {
		t.Error(err)
	}
}

// Other programs write ed25519 keys in PKCS #8, and OpenSSH reads them.
func TestIdentityInPKCS8(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	ids := load(t, writeFile(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))))
	if got, err := open(ids, seal(t, []string{string(ssh.MarshalAuthorizedKey(pub))}, []byte("x"))); err != nil ||
		string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestWhatIsNoIdentity(t *testing.T) {
	pair, ssh := x25519Pair(t), sshPair(t, "ed25519", "")
	secret, sshText := secretLine(t, pair.file), readFile(t, ssh.file)
	ecdsa := sshPair(t, "ecdsa", "")
	for name, c := range map[string]struct{ text, says string }{
		"nothing":            {"", "no secret key"},
		"only comments":      {"# public key: " + pair.recipient, "no secret key"},
		"a recipient":        {pair.recipient, "line 1: this is a recipient"},
		"an ssh public key":  {ssh.recipient, "this is a recipient"},
		"a plugin's":         {"AGE-PLUGIN-YUBIKEY-1QQQQQQQQQQ", "plugin"},
		"prose before a key": {"key: " + secret, "no secret key that age knows"},
		"a cut key":          {"# mine\n" + secret[:len(secret)-3], "line 2: it is not a whole age secret key"},
		"a misspelt key":     {secret[:40] + strings.ToLower(secret[40:]), "not a whole age secret key"},
		"a cut ssh key":      {sshText[:200], "not a whole private key"},
		"a broken ssh key":   {strings.Replace(sshText, "b3Blbn", "b3BlbN", 1), "not a whole private key"},
		"another ssh key":    {readFile(t, ecdsa.file), "cannot use this kind"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := crypt.LoadIdentities(writeFile(t, "key.txt", c.text))
			checkError(t, err, "identity: ", "key.txt", c.says)
			if failure.KindOf(err) != failure.Usage {
				t.Errorf("kind %v", failure.KindOf(err))
			}
			checkSecret(t, err, strings.TrimPrefix(secret, "AGE-SECRET-KEY-"))
			checkSecret(t, err, strings.ToLower(secret[40:]))
			for _, line := range strings.Split(sshText, "\n")[1:6] {
				checkSecret(t, err, line)
			}
		})
	}
	_, err := crypt.LoadIdentities(filepath.Join(t.TempDir(), "absent"))
	checkError(t, err, "absent", "no such file")
	if failure.KindOf(err) != failure.NotFound {
		t.Errorf("kind %v", failure.KindOf(err))
	}
	if _, err := crypt.LoadIdentities(t.TempDir()); err == nil {
		t.Error("a directory was read")
	}
}

func TestIdentityThatOthersMayRead(t *testing.T) {
	pair := x25519Pair(t)
	if w := load(t, pair.file).Warnings(); len(w) != 0 {
		t.Errorf("warnings %q", w)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o644} {
		if err := os.Chmod(pair.file, mode); err != nil {
			t.Fatal(err)
		}
		if w := load(t, pair.file).Warnings(); len(w) != 1 || !strings.Contains(w[0], "chmod 600 "+pair.file) {
			t.Errorf("mode %v: warnings %q", mode, w)
		}
	}
}

// lock seals text with the passphrase "correct horse", as age -p does.
func lock(t testing.TB, text string, armored bool) string {
	t.Helper()
	r, err := age.NewScryptRecipient("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	r.SetWorkFactor(10)
	var out bytes.Buffer
	var dst io.WriteCloser = nopCloser{&out}
	if armored {
		dst = armor.NewWriter(&out)
	}
	w, err := age.Encrypt(dst, r)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write([]byte(text))
	if err := errors.Join(err, w.Close(), dst.Close()); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
