package offsite_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/offsite"
)

// A new machine that has restored the newest full snapshot and the newest knows as
// much of the vault as the old one did: its first push is a day's.
func TestRebuildGoesOnWithADaysBytes(t *testing.T) {
	r := newRig(t)
	s := newStore(1)
	first := r.push(r.take(s, stampOf(0), true))
	s.day()
	r.push(r.take(s, stampOf(1), true))
	s.day()
	r.push(r.take(s, stampOf(2), false))
	s.day()
	today := r.take(s, stampOf(3), false)

	survey, err := r.vault.Survey(t.Context(), r.signers())
	r.check(err)
	o := offsite.PullOptions{Identities: r.identities, Signers: r.signers()}
	r.stateDir, r.baseDir = t.TempDir(), t.TempDir()
	last := make(map[string]fsx.Op) // what was done last to each base file
	defer fsx.Observe(func(op fsx.Op, path string) error {
		if strings.HasPrefix(path, r.baseDir) {
			last[path] = op
		}
		return nil
	})()
	list := survey.NewestFullAndNewest(today.Info.Stamp.Time())
	if len(list) != 2 || list[0].Stamp != stampOf(1) || list[1].Stamp != stampOf(2) {
		t.Fatalf("%+v", list)
	}
	for _, stored := range list {
		dir := filepath.Join(t.TempDir(), "pulled")
		r.check(r.vault.Pull(t.Context(), stored, dir, o))
		r.check(r.vault.Rebuild(t.Context(), stored, dir, o, offsite.RebuildOptions{
			StateDir: offsite.StateDir(r.stateDir, "laptop"), BaseDir: r.baseDir, Recipients: r.recipients}))
	}
	copies := 0
	for path, op := range last {
		if op == fsx.OpWrite {
			t.Errorf("%s is not flushed", path)
		}
		if op == fsx.OpSync {
			copies++
		}
	}
	if copies == 0 {
		t.Errorf("no base file differs from its snapshot's: %v", last)
	}
	pushed := r.push(today)
	if pushed.Base || pushed.Bytes > first.Bytes/5 || len(pushed.Warnings) > 0 {
		t.Errorf(
			"%d bytes after a first push of %d, base %v, warnings %q", pushed.Bytes, first.Bytes, pushed.Base,
			pushed.Warnings,
		)
	}
	r.wantPull(today)
	// The files that only the full snapshot has are known too.
	s.day()
	full := r.take(s, stampOf(4), true)
	if pushed := r.push(full); pushed.Base || pushed.Bytes > first.Bytes/3 {
		t.Errorf("the next full one: %d bytes of %d, base %v", pushed.Bytes, first.Bytes, pushed.Base)
	}
	r.wantPull(full)
	r.wantRecover(full)
}
