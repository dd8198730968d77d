package app

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/forktest"
	"golang.org/x/sync/errgroup"
)

// The notes of a reader lie with the reader, who is no root: another process.
func TestReaderNotes(t *testing.T) {
	dir := t.TempDir()
	for up := dir; up != os.TempDir(); up = filepath.Dir(up) {
		if err := os.Chmod(up, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	home := filepath.Join(dir, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := forktest.Command("keep notes", home, "HOME="+home, "XDG_STATE_HOME=")
	if os.Geteuid() == 0 {
		const nobody = 65534
		if err := os.Chown(home, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		cmd = forktest.As(nobody, cmd)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// keepNotes keeps notes of two vaults in a home directory, and says what is not as
// it should be.
func keepNotes(home string) error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	key := func(name string) string {
		s, _, err := crypt.LoadOrCreateSigner(filepath.Join(home, name))
		if err != nil {
			errs = append(errs, err)
			return ""
		}
		return s.AuthorizedKey()
	}
	const one, two = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
	a, b := key("a"), key("b")
	dir, err := readerDir()
	check(err == nil && dir == filepath.Join(home, ".local/state/atobackupd"), "the notes lie in %s, %v", dir, err)
	signers, err := ReaderSigners(one)
	check(err == nil && len(signers) == 0, "before any: %v, %v", signers, err)
	for _, line := range []struct{ vault, key string }{{one, a}, {two, b}, {one, b}, {one, a},
		{one, a + " a comment"}} {
		err := AddReaderSigner(line.vault, line.key)
		check(err == nil, "%v: %v", line, err)
	}
	for vault, want := range map[string][]string{one: {a, b}, two: {b}, "x": nil} {
		signers, err := ReaderSigners(vault)
		check(err == nil && slices.Equal([]string(signers), want), "%s: %q, %v, want %q", vault, signers, err, want)
	}
	for _, bad := range []string{"", "no key", "ssh-ed25519 AAAA"} {
		err := AddReaderSigner(one, bad)
		check(failure.KindOf(err) == failure.Usage, "%q: %v", bad, err)
	}
	text, err := os.ReadFile(filepath.Join(dir, signersFile))
	check(err == nil && strings.Count(string(text), "\n") == 3, "each line stands once: %q, %v", text, err)
	info, err := os.Stat(filepath.Join(dir, signersFile))
	check(err == nil && info.Mode().Perm() == 0o600, "%v, %v", info, err)
	// A file that somebody edited and that ends without a line end.
	check(os.WriteFile(filepath.Join(dir, signersFile), []byte("# mine\n\n  "+one+"   "+a), 0o600) == nil, "no write")
	check(AddReaderSigner(two, b) == nil, "after an edit")
	for vault, want := range map[string][]string{one: {a}, two: {b}} {
		signers, err := ReaderSigners(vault)
		check(err == nil && slices.Equal([]string(signers), want), "edited, %s: %q, %v", vault, signers, err)
	}
	at, err := trustedTimes(one)
	check(err == nil && at.IsZero(), "times before any: %v, %v", at, err)
	for _, hours := range []int{5, 9, 2} { // the latest counts, whatever was said last
		check(TrustTimes(one, noon.Add(time.Duration(hours)*time.Hour)) == nil, "trust %d", hours)
	}
	at, err = trustedTimes(one)
	check(err == nil && at.Equal(noon.Add(9*time.Hour)), "times: %v, %v", at, err)
	at, err = trustedTimes(two)
	check(err == nil && at.IsZero(), "times of another vault: %v, %v", at, err)
	state := filepath.Join(home, "state")
	errs = append(errs, os.Setenv("XDG_STATE_HOME", state))
	dir, err = readerDir()
	check(err == nil && dir == filepath.Join(state, "atobackupd"), "by XDG_STATE_HOME: %s, %v", dir, err)
	errs = append(errs, os.Setenv("XDG_STATE_HOME", "relative"))
	dir, err = readerDir()
	check(err == nil && dir == filepath.Join(home, ".local/state/atobackupd"), "by a relative one: %s, %v", dir, err)
	return errors.Join(errs...)
}

// Notes that are written at once are all kept.
func TestNotesAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "notes")
	var group errgroup.Group
	const each = 20
	for writer := range 4 {
		group.Go(func() error {
			for n := range each {
				if err := addNoteIn(dir, signersFile, "vault", fmt.Sprintf("key %d of %d", n, writer)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if kept, err := notesIn(dir, signersFile, "vault"); err != nil || len(kept) != 4*each {
		t.Errorf("%d notes are kept of %d, %v", len(kept), 4*each, err)
	}
}
