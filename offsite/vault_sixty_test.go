package offsite_test

import (
	"context"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/retention"
	"github.com/atocore/atobackupd/snapshot"
)

// Sixty days: a snapshot a day, a full one each Sunday, pushed and pruned each
// day. Whatever is listed can be fetched on any day, the vault stays small, and
// prune removes for good.
func TestSixtyDays(t *testing.T) {
	r := newRig(t)
	random := rand.New(rand.NewPCG(60, 1))
	s := newStore(60)
	s.moving = true
	r.options = func(o *offsite.PushOptions) { o.RebaseRatio = 0.05 } // so that patches are consolidated, too
	policy := retention.Policy{Daily: 7, Weekly: 4, Monthly: 6, MaxDeleteFraction: 0.5}
	sources := make(map[snapshot.Stamp]offsite.Source)
	first, removed, based := int64(0), 0, 0
	for n := range 60 {
		now := stampOf(n).Time().Add(10 * time.Minute)
		src := r.take(s, stampOf(n), now.Weekday() == time.Sunday || n == 0)
		sources[src.Info.Stamp] = src
		pushed := r.push(src)
		if n == 0 {
			first = pushed.Bytes
		}
		if len(pushed.Warnings)+len(pushed.Damage) > 0 {
			t.Errorf("day %d: %+v", n, pushed)
		}
		r.setClock(now)
		based += map[bool]int{true: 1}[pushed.Base]
		removed += len(r.prune(now, policy).Removed)
		r.setClock(now)
		stamps := r.wantWhole()
		if n%6 == 5 {
			r.wantPull(sources[stamps[random.IntN(len(stamps))]])
		}
		s.day()
	}
	stamps := r.wantWhole()
	if len(stamps) < 12 || len(stamps) > 17 {
		t.Errorf("%d snapshots are left: %v", len(stamps), stamps)
	}
	if removed == 0 {
		t.Error("nothing was removed for good")
	}
	t.Logf("%d objects removed, %d pushes with base pages", removed, based)
	if size := r.size(); size > 4*first {
		t.Errorf("the vault has %d bytes, the first push had %d", size, first)
	}
	for _, stamp := range stamps {
		r.wantPull(sources[stamp])
	}
	r.wantRecover(sources[stamps[random.IntN(len(stamps))]])
	r.wantRecover(sources[stamps[len(stamps)-1]])
}

// setClock returns what the vault got just now the time of the simulation.
func (r *rig) setClock(now time.Time) {
	r.t.Helper()
	r.check(filepath.WalkDir(r.root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if info, err := entry.Info(); err != nil || info.ModTime().Before(stampOf(100).Time()) {
			return err
		}
		return os.Chtimes(path, time.Time{}, now)
	}))
}

// wantWhole sees that every snapshot that is listed has all its packs.
func (r *rig) wantWhole() []snapshot.Stamp {
	r.t.Helper()
	ctx := context.Background()
	list, warnings, err := r.vault.ListVerified(ctx, r.signers())
	r.check(err)
	if len(warnings) > 0 {
		r.t.Errorf("warnings: %q", warnings)
	}
	result, err := r.vault.Verify(ctx, offsite.VerifyOptions{Signers: r.signers()})
	r.check(err)
	if len(result.Findings) > 0 {
		r.t.Errorf("findings: %v", result.Findings)
	}
	var stamps []snapshot.Stamp
	for _, stored := range list {
		stamps = append(stamps, stored.Stamp)
	}
	return stamps
}

// size is what the vault's packs take.
func (r *rig) size() (total int64) {
	r.t.Helper()
	for _, under := range []string{"packs", "trash"} {
		for _, name := range r.objects(under) {
			info, err := os.Stat(filepath.Join(r.root, name))
			r.check(err)
			total += info.Size()
		}
	}
	return total
}
