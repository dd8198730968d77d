package offsite_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/atocore/atobackupd/internal/forktest"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
	"github.com/atocore/atobackupd/internal/provetest"
	"github.com/atocore/atobackupd/offsite"
)

// stranger is a user who is not root and does not run the test.
const stranger = 1000

func TestMain(m *testing.M) {
	os.Exit(forktest.Main(m.Run, map[string]forktest.Role{"exchange": forktest.JSON(forktest.BeExchanger)}))
}

// TestExchangedDirectories pushes, verifies and restores while another process
// exchanges a directory of the vault, or the one that a restore goes to, for a link
// to a victim and back. Each call does its work in the right place or fails.
func TestExchangedDirectories(t *testing.T) {
	type scene struct {
		*rig
		into  string // where restores go
		round int
	}
	push := func(s *scene) error {
		src := s.snapshot(stampOf(s.round), map[string][]byte{"db/atocore.db": text(uint64(s.round), 20<<10)})
		s.seq++
		_, err := s.vault.Push(s.t.Context(), src, s.pushOptions())
		return err
	}
	verify := func(s *scene) error {
		report, err := s.vault.Verify(s.t.Context(), offsite.VerifyOptions{Signers: s.signers()})
		if err == nil && len(report.Findings) > 0 {
			err = fmt.Errorf("%v", report.Findings)
		}
		return err
	}
	restore := func(s *scene) error {
		stored, _, err := s.vault.Find(s.t.Context(), string(stampOf(0)), s.signers())
		if err != nil {
			return err
		}
		o := offsite.PullOptions{Identities: s.identities, Signers: s.signers()}
		return s.vault.Pull(s.t.Context(), stored, filepath.Join(s.into, fmt.Sprint(s.round)), o)
	}
	for _, test := range []struct {
		name string
		what func(s *scene) string // is exchanged
		call func(s *scene) error
	}{
		{"packs while pushing", func(s *scene) string { return filepath.Join(s.root, "packs") }, push},
		{"snapshots while pushing", func(s *scene) string { return filepath.Join(s.root, "snapshots") }, push},
		{"packs while verifying", func(s *scene) string { return filepath.Join(s.root, "packs") }, verify},
		{"packs while restoring", func(s *scene) string { return filepath.Join(s.root, "packs") }, restore},
		{"destination while restoring", func(s *scene) string { return s.into }, restore},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &scene{rig: newRig(t), into: filepath.Join(t.TempDir(), "into")}
			s.push(s.snapshot(stampOf(0), map[string][]byte{"db/atocore.db": text(0, 50<<10),
				"chroma/a/b": text(1, 9<<10)}))
			victim := t.TempDir()
			s.write(victim, "secret", []byte("the victim's"))
			s.write(victim, "0/secret", []byte("the victim's"))
			s.check(os.MkdirAll(s.into, 0o755))
			what := test.what(s)
			s.check(os.Symlink(victim, what+".link"))
			// The application's or the account's own: root's links would be followed.
			for dir := filepath.Dir(filepath.Dir(what)); dir != os.TempDir(); dir = filepath.Dir(dir) {
				s.check(os.Chmod(dir, 0o755))
			}
			for _, name := range []string{filepath.Dir(what), what, what + ".link"} {
				s.check(os.Lchown(name, stranger, stranger))
			}
			before := fsxtest.State(t, victim)
			hostile := forktest.StartWhen(t, "exchanging",
				forktest.As(stranger, forktest.Command("exchange", forktest.Exchange{A: what, B: what + ".link"})))
			done, failed, rounds := 0, 0, provetest.Rounds(t, 40)
			for s.round = 1; s.round <= rounds || (done < 3 || failed < 3) && s.round < 2000; s.round++ {
				if err := test.call(s); err != nil {
					failed++
				} else {
					done++
				}
			}
			exchanges := hostile.StopExchanging()
			if after := fsxtest.State(t, victim); after != before {
				t.Errorf("the victim was\n%s\nand is\n%s", before, after)
			}
			if done < 3 || failed < 3 || exchanges < 100 {
				t.Errorf("no race: %d were done, %d failed, %d exchanges", done, failed, exchanges)
			}
			t.Logf("%d done, %d failed, %d exchanges", done, failed, exchanges)
			provetest.Points(t, done+failed)
		})
	}
}
