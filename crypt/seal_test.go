package crypt_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/failure"
)

func TestEveryKindOfKeyOpensWhatWasSealedToIt(t *testing.T) {
	classic := []keyPair{x25519Pair(t), x25519Pair(t), sshPair(t, "ed25519", ""), sshPair(t, "rsa", "")}
	quantum := []keyPair{quantumPair(t), quantumPair(t)}
	for name, set := range map[string][]keyPair{
		"X25519": classic[:1], "ssh-ed25519": classic[2:3], "ssh-rsa": classic[3:], "post-quantum": quantum[:1],
		"four classic ones": classic, "two post-quantum ones": quantum,
	} {
		t.Run(name, func(t *testing.T) {
			var recipients []string
			for _, pair := range set {
				recipients = append(recipients, pair.recipient)
			}
			// age works in pieces of 64 KiB: the sizes around one matter.
			for _, size := range []int{0, 1, 65535, 65536, 65537, 200000} {
				plain := randomBytes(size)
				sealed := seal(t, recipients, plain)
				if !crypt.IsHeader(sealed) || !crypt.IsHeader(sealed[:crypt.HeaderLen]) {
					t.Fatal("what was sealed does not begin like an age file")
				}
				for _, pair := range set {
					got, err := open(load(t, pair.file), sealed)
					if err != nil || !bytes.Equal(got, plain) {
						t.Fatalf("%d bytes: %d came back, %v", size, len(got), err)
					}
				}
			}
		})
	}
}

func TestIsHeader(t *testing.T) {
	for text, want := range map[string]bool{
		"age-encryption.org/v1\n": true, "age-encryption.org/v1\n-> X25519 ": true,
		"age-encryption.org/v1": false, "age-encryption.org/v2\n": false, "": false, "SQLite format 3\x00     ": false,
	} {
		if crypt.IsHeader([]byte(text)) != want {
			t.Errorf("IsHeader(%q) = %v", text, !want)
		}
	}
}

func TestDamageIsAnError(t *testing.T) {
	pair := x25519Pair(t)
	ids := load(t, pair.file)
	sealed := seal(t, []string{pair.recipient}, []byte("a small secret"))
	for i := range sealed {
		for _, bit := range []byte{1, 0x80} {
			changed := bytes.Clone(sealed)
			changed[i] ^= bit
			if got, err := open(ids, changed); err == nil {
				t.Fatalf("bit %#x of byte %d was turned and %q came out", bit, i, got)
			}
		}
	}
	for n := range sealed {
		if got, err := open(ids, sealed[:n]); err == nil {
			t.Fatalf("cut at byte %d of %d and %q came out", n, len(sealed), got)
		}
	}
	if _, err := open(ids, append(bytes.Clone(sealed), 0)); err == nil {
		t.Fatal("a byte after the end was accepted")
	}
}

// A cut between two pieces leaves only whole ones, which is the case that a
// reader without a mark on the last piece would take for the end.
func TestCutBetweenPiecesIsAnError(t *testing.T) {
	pair := x25519Pair(t)
	ids := load(t, pair.file)
	const piece = 64 << 10
	sealed := seal(t, []string{pair.recipient}, randomBytes(3*piece))
	head := len(seal(t, []string{pair.recipient}, nil)) - 16
	for _, n := range []int{head, head + piece + 16, head + 2*(piece+16)} {
		if got, err := open(ids, sealed[:n]); err == nil {
			t.Fatalf("cut at byte %d of %d and %d bytes came out without an error", n, len(sealed), len(got))
		}
	}
}

func TestSealReportsAFullDisk(t *testing.T) {
	pair := x25519Pair(t)
	r, err := crypt.ParseRecipients([]string{pair.recipient})
	if err != nil {
		t.Fatal(err)
	}
	plain := randomBytes(100000)
	whole := len(seal(t, []string{pair.recipient}, plain))
	for room := 0; room < whole; room += 997 {
		w, err := r.Seal(&limitedWriter{room: room})
		if err == nil {
			_, err = w.Write(plain)
			err = errors.Join(err, w.Close())
		}
		if !errors.Is(err, errFull) {
			t.Fatalf("room for %d of %d bytes: %v", room, whole, err)
		}
	}
}

func TestOpenWithoutTheRightKey(t *testing.T) {
	mine, theirs, third := x25519Pair(t), x25519Pair(t), sshPair(t, "ed25519", "")
	sealed := seal(t, []string{theirs.recipient, third.recipient}, []byte("x"))
	_, err := load(t, mine.file).Open(bytes.NewReader(sealed))
	checkError(t, err, "no key of "+mine.file, "2 recipients", "X25519", "ssh-ed25519")
	var f *failure.Error
	if !errors.As(err, &f) || f.Kind != failure.Other || f.Hint == "" {
		t.Errorf("not a failure of kind Other with a hint: %#v", err)
	}
	checkSecret(t, err, secretLine(t, mine.file))

	_, err = load(t, mine.file).Open(strings.NewReader("SQLite format 3\x00"))
	checkError(t, err, "decrypt")
	if _, err := (crypt.Identities{}).Open(bytes.NewReader(sealed)); err == nil {
		t.Error("the zero value opened a file")
	}
}

func TestUseByManyGoroutines(t *testing.T) {
	pairs := []keyPair{x25519Pair(t), sshPair(t, "ed25519", "")}
	r, err := crypt.ParseRecipients([]string{pairs[0].recipient, pairs[1].recipient})
	if err != nil {
		t.Fatal(err)
	}
	ids := load(t, pairs[1].file)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			plain := fmt.Appendf(nil, "pack %d", i)
			var sealed bytes.Buffer
			w, err := r.Seal(&sealed)
			if err == nil {
				_, err = w.Write(plain)
				err = errors.Join(err, w.Close())
			}
			got, openErr := open(ids, sealed.Bytes())
			if err := errors.Join(err, openErr); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%q: %v", got, err)
			}
		})
	}
	group.Wait()
}

func TestInteropWithAge(t *testing.T) {
	plain := string(randomBytes(150000))
	for name, pair := range map[string]keyPair{
		"X25519": x25519Pair(t), "ssh-ed25519": sshPair(t, "ed25519", ""), "ssh-rsa": sshPair(t, "rsa", ""),
	} {
		t.Run(name, func(t *testing.T) {
			sealed := seal(t, []string{pair.recipient}, []byte(plain))
			if got := run(t, string(sealed), "age", "-d", "-i", pair.file); got != plain {
				t.Error("age read something else than was sealed here")
			}
			theirs := run(t, plain, "age", "-r", pair.recipient)
			if got, err := open(load(t, pair.file), []byte(theirs)); err != nil || string(got) != plain {
				t.Errorf("what age sealed does not open here: %v", err)
			}
		})
	}
}

func TestInteropWithAgeKeygen(t *testing.T) {
	pair := x25519Pair(t)
	if got := strings.TrimSpace(run(t, "", "age-keygen", "-y", pair.file)); got != pair.recipient {
		t.Errorf("age-keygen reads %s, we said %s", got, pair.recipient)
	}
	path := filepath.Join(t.TempDir(), "theirs.txt")
	run(t, "", "age-keygen", "-o", path)
	recipient := strings.TrimSpace(run(t, "", "age-keygen", "-y", path))
	if got, err := open(load(t, path), seal(t, []string{recipient}, []byte("x"))); err != nil || string(got) != "x" {
		t.Errorf("age-keygen's key: %q, %v", got, err)
	}
	// The file is laid out as age-keygen's: people and scripts read the comments.
	ours, theirs := strings.Split(readFile(t, pair.file), "\n"), strings.Split(readFile(t, path), "\n")
	for i, line := range theirs {
		if len(ours) != len(theirs) || len(ours[i]) != len(line) ||
			!strings.HasPrefix(ours[i], line[:min(len(line), 10)]) {
			t.Fatalf("our file differs in form:\n%s", strings.Join(ours, "\n"))
		}
	}
}

func TestWriteIdentityNeverReplaces(t *testing.T) {
	pair := x25519Pair(t)
	before := readFile(t, pair.file)
	_, err := crypt.WriteIdentity(pair.file)
	checkError(t, err, pair.file, "move it away")
	if !errors.Is(err, os.ErrExist) || readFile(t, pair.file) != before {
		t.Errorf("%v; the file is changed: %v", err, readFile(t, pair.file) != before)
	}
	checkOnlyFiles(t, filepath.Dir(pair.file), "key.txt")
	if info, err := os.Stat(pair.file); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	_, err = crypt.WriteIdentity(filepath.Join(t.TempDir(), "missing", "key.txt"))
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing directory: %v", err)
	}
}

func TestGenerateIdentity(t *testing.T) {
	identity, recipient, err := crypt.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	key, err := age.ParseX25519Identity(identity)
	if err != nil || key.Recipient().String() != recipient {
		t.Errorf("%s does not belong to the secret key: %v", recipient, err)
	}
}

func open(ids crypt.Identities, sealed []byte) ([]byte, error) {
	r, err := ids.Open(bytes.NewReader(sealed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{7})
	_, _ = r.Read(b)
	return b
}

func secretLine(t testing.TB, path string) string {
	t.Helper()
	for line := range strings.Lines(readFile(t, path)) {
		if strings.HasPrefix(line, "AGE-SECRET-KEY-") {
			return strings.TrimSpace(line)
		}
	}
	t.Fatal("no secret key in " + path)
	return ""
}

func checkOnlyFiles(t testing.TB, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%s holds %q, want %q", dir, got, want)
	}
}

var errFull = errors.New("no space left")

type limitedWriter struct{ room int }

func (w *limitedWriter) Write(p []byte) (int, error) {
	if len(p) > w.room {
		return 0, errFull
	}
	w.room -= len(p)
	return len(p), nil
}
