package crypt_test

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/failure"
)

func TestRecipientsSet(t *testing.T) {
	one, two, ssh := x25519Pair(t).recipient, x25519Pair(t).recipient, sshPair(t, "ed25519", "").recipient
	bare := strings.Join(strings.Fields(ssh)[:2], " ")
	all, err := crypt.ParseRecipients([]string{one, " " + two + "\t", "", "# the drawer", ssh})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{one, two, bare}
	slices.Sort(want)
	if got := all.Strings(); !slices.Equal(got, want) || all.Len() != 3 || len(all.Warnings()) != 0 {
		t.Errorf("Strings %q, Len %d, Warnings %q", got, all.Len(), all.Warnings())
	}

	same, err := crypt.ParseRecipients([]string{bare + " other comment", two, one, ssh, one})
	if err != nil {
		t.Fatal(err)
	}
	if same.Fingerprint() != all.Fingerprint() || len(all.Fingerprint()) != 64 || same.Len() != 3 {
		t.Error("order, comments or repetition changed the set")
	}
	if w := same.Warnings(); len(w) != 2 || !strings.Contains(w[0], "recipient 4 is listed already") {
		t.Errorf("warnings %q", w)
	}

	fewer, err := crypt.ParseRecipients([]string{one, one})
	if err != nil {
		t.Fatal(err)
	}
	if fewer.Fingerprint() == all.Fingerprint() || fewer.Len() != 1 {
		t.Error("another set has the same fingerprint")
	}
	if w := strings.Join(fewer.Warnings(), "\n"); !strings.Contains(w, "only one recipient") ||
		!strings.Contains(w, "drawer") {
		t.Errorf("warnings %q", w)
	}
	// What it gives out is the caller's own.
	all.Strings()[0] = "changed"
	if all.Strings()[0] == "changed" {
		t.Error("Strings gives out the set itself")
	}
}

func TestLoadRecipients(t *testing.T) {
	one, two := x25519Pair(t), x25519Pair(t)
	file := writeFile(t, "recipients.txt", "\ufeff# the laptop\r\n\r\n"+two.recipient+"\r\n")
	r, err := crypt.LoadRecipients([]string{one.recipient}, file)
	if err != nil || r.Len() != 2 {
		t.Fatalf("%v, %v", r, err)
	}
	if r, err := crypt.LoadRecipients([]string{one.recipient}, ""); err != nil || r.Len() != 1 {
		t.Errorf("without a file: %v, %v", r, err)
	}

	_, err = crypt.LoadRecipients(nil, filepath.Join(t.TempDir(), "absent"))
	checkError(t, err, "absent", "no such file")
	_, err = crypt.LoadRecipients(nil, one.file) // its secret key is on line 3
	checkError(t, err, one.file+" line 3", "identity")
	checkSecret(t, err, secretLine(t, one.file))
	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(big, 1<<40); err != nil {
		t.Fatal(err)
	}
	_, err = crypt.LoadRecipients(nil, big)
	checkError(t, err, "larger than")
}

func TestWhatIsNoRecipient(t *testing.T) {
	classic, quantum := x25519Pair(t), quantumPair(t)
	sshSecret := readFile(t, sshPair(t, "ed25519", "").file)
	rsa1024, ecdsa := sshKey(t, "rsa", "1024"), sshKey(t, "ecdsa", "256")
	for name, c := range map[string]struct {
		lines []string
		says  []string
	}{
		"nothing":       {nil, []string{"there is none", "nothing leaves in the clear"}},
		"only comments": {[]string{"", "# a"}, []string{"there is none"}},
		"an identity": {
			[]string{classic.recipient, secretLine(t, classic.file)},
			[]string{"recipient 2", "identity", "not a recipient"},
		},
		"an identity in prose": {
			[]string{"key=" + strings.ToLower(secretLine(t, classic.file))},
			[]string{"recipient 1", "identity"},
		},
		"a post-quantum identity": {[]string{secretLine(t, quantum.file)}, []string{"identity"}},
		"an ssh private key":      {[]string{sshSecret}, []string{"private key"}},
		"its first line":          {strings.Split(sshSecret, "\n"), []string{"recipient 1", "private key"}},
		"its second line":         {strings.Split(sshSecret, "\n")[1:], []string{"recipient 1", "no public key"}},
		"a plugin's key": {
			[]string{"age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t"},
			[]string{"plugin"},
		},
		"a cut key": {[]string{classic.recipient[:60]}, []string{"not a whole age key"}},
		"a misspelt key": {
			[]string{classic.recipient[:20] + "b" + classic.recipient[21:]}, []string{"not a whole age key"},
		},
		"a cut post-quantum key": {[]string{quantum.recipient[:900]}, []string{"not a whole post-quantum"}},
		"a cut ssh key":          {[]string{sshKey(t, "ed25519", "256")[:50]}, []string{"not a whole ssh public key"}},
		"two lines": {
			[]string{classic.recipient + "\n" + classic.recipient}, []string{"more than one line"},
		},
		"small RSA":            {[]string{rsa1024}, []string{"cannot use", "2048"}},
		"ecdsa":                {[]string{ecdsa}, []string{"no public key that age knows", "ssh-ed25519"}},
		"GitHub":               {[]string{"github:somebody"}, []string{"no public key"}},
		"a point of low order": {[]string{lowOrder}, []string{"low order", "replace the key"}},
		"a mixture": {
			[]string{classic.recipient, quantum.recipient},
			[]string{"1 of 2", "post-quantum", "for all, or for none"},
		},
		"a mixture with ssh": {
			[]string{quantum.recipient, sshKey(t, "ed25519", "256")}, []string{"1 of 2", "does not mix"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := crypt.ParseRecipients(c.lines)
			checkError(t, err, append(c.says, "recipients")...)
			if failure.KindOf(err) != failure.Config {
				t.Errorf("kind %v", failure.KindOf(err))
			}
			for _, secret := range []string{
				secretLine(t, classic.file), strings.ToLower(secretLine(t, classic.file)),
				secretLine(t, quantum.file),
			} {
				checkSecret(t, err, strings.TrimPrefix(strings.ToUpper(secret), "AGE-SECRET-KEY-"))
			}
			for _, line := range strings.Split(sshSecret, "\n")[1:] {
				if !strings.HasPrefix(line, "-----") {
					checkSecret(t, err, line)
				}
			}
		})
	}
}

// lowOrder is a well-formed age key whose point would give every sender the
// same shared secret: all zeros.
const lowOrder = "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq5cu47z"

func sshKey(t testing.TB, kind, bits string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "id")
	run(t, "", "ssh-keygen", "-q", "-t", kind, "-b", bits, "-N", "", "-f", path)
	return strings.TrimSpace(readFile(t, path+".pub"))
}

func FuzzParseRecipients(f *testing.F) {
	pair := x25519Pair(f)
	f.Add(pair.recipient)
	f.Add(pair.recipient + "\n" + sshKey(f, "ed25519", "256"))
	f.Add(quantumPair(f).recipient)
	f.Add(secretLine(f, pair.file))
	f.Add("ssh-ed25519 " + base64.StdEncoding.EncodeToString([]byte("\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20")))
	f.Add("# nothing\n")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := crypt.ParseRecipients(strings.Split(text, "\n"))
		if err != nil {
			if r != nil {
				// The set must not be usable after an error.
				t.Fatal("an error and a set")
			}
			return
		}
		again, err := crypt.ParseRecipients(r.Strings())
		if err != nil || again.Fingerprint() != r.Fingerprint() || again.Len() != r.Len() {
			t.Fatalf("the canonical form is read differently: %v", err)
		}
	})
}
