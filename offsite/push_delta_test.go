package offsite_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/snapshot"
)

// store is a live store that changes from day to day.
type store struct {
	random *rand.Rand
	moving bool // files come and go
	files  map[string][]byte
}

func newStore(seed uint64) *store {
	return &store{random: rand.New(rand.NewPCG(seed, 2)), files: map[string][]byte{
		"db/atocore.db":                text(seed, 2<<20),
		"config/project-registry.json": []byte(`{"projects": ["p01"]}`),
		"chroma/chroma.sqlite3":        text(seed+1, 600<<10),
		"chroma/seg/data_level0.bin":   noise(byte(seed), 1<<20),
		"chroma/seg/length.bin":        make([]byte, 90<<10),
	}}
}

// day changes what a day's work would: a few rows here and there, growth, a
// page that becomes zeros, sometimes a file that shrinks, goes or comes.
func (s *store) day() {
	for name, data := range s.files {
		data = bytes.Clone(data)
		for range 1 + len(data)/100000 {
			at := s.random.IntN(max(1, len(data)))
			copy(data[at:], fmt.Sprintf("change %d", s.random.Uint64()))
		}
		switch s.random.IntN(6) {
		case 0:
			data = append(data, text(s.random.Uint64(), s.random.IntN(30000))...)
		case 1:
			if at := s.random.IntN(len(data)/4096+1) * 4096; at+8192 < len(data) {
				clear(data[at : at+8192])
			}
		case 2:
			data = data[:len(data)-s.random.IntN(len(data)/20+1)]
		}
		s.files[name] = data
	}
	if !s.moving {
		return
	}
	switch extra := "chroma/seg2/header.bin"; s.random.IntN(4) {
	case 0:
		s.files[extra] = noise(byte(s.random.IntN(256)), 50000)
	case 1:
		delete(s.files, extra)
	}
}

// take makes a snapshot of the store, with or without chroma.
func (r *rig) take(s *store, stamp snapshot.Stamp, full bool) offsite.Source {
	r.t.Helper()
	files := make(map[string][]byte)
	for name, data := range s.files {
		if full || !strings.HasPrefix(name, "chroma/") {
			files[name] = data
		}
	}
	src := r.snapshot(stamp, files)
	src.Info.Full = full
	return src
}

func TestADaysChangeCostsADaysChange(t *testing.T) {
	r := newRig(t)
	s := newStore(1)
	s.moving = true
	first := r.take(s, stampOf(0), true)
	whole := r.push(first)
	sources := []offsite.Source{first}
	for day := 1; day <= 12; day++ {
		s.day()
		src := r.take(s, stampOf(day), day%4 == 0)
		pushed := r.push(src)
		sources = append(sources, src)
		if pushed.Bytes > whole.Bytes/5 || len(pushed.Warnings)+len(pushed.Damage) > 0 {
			t.Errorf("day %d: %+v after a first push of %d", day, pushed, whole.Bytes)
		}
	}
	for _, src := range sources {
		r.wantPull(src)
	}
	r.wantRecover(sources[3])
	r.wantRecover(sources[12])
	if got := len(r.list()); got != 13 {
		t.Errorf("%d snapshots", got)
	}
}

func TestUnchangedCostsAManifest(t *testing.T) {
	r := newRig(t)
	s := newStore(1)
	r.push(r.take(s, stampOf(0), true))
	src := r.take(s, stampOf(1), true)
	if pushed := r.push(src); pushed.Packs != 0 || pushed.Base || pushed.Bytes > 8<<10 {
		t.Errorf("%+v for nothing new", pushed)
	}
	r.wantPull(src)
}

// What this machine remembers may be lost, rotten or old: that costs bytes,
// and the answer stays right.
func TestLocalState(t *testing.T) {
	mapFile := func(r *rig) string { return filepath.Join(offsite.StateDir(r.stateDir, "laptop"), "map") }
	flip := func(r *rig, path string, at func(size int) int) {
		data, err := os.ReadFile(path)
		r.check(err)
		data[at(len(data))] ^= 0x10
		r.check(os.Remove(path))
		r.check(os.WriteFile(path, data, 0o600))
	}
	bases := func(r *rig, name string) string {
		found, err := filepath.Glob(filepath.Join(r.baseDir, "*", name))
		r.check(err)
		if len(found) != 1 {
			r.t.Fatalf("base files of %s: %q", name, found)
		}
		return found[0]
	}
	for name, c := range map[string]struct {
		harm func(r *rig)
		base bool
		warn string
	}{
		"nothing":  {func(*rig) {}, false, ""},
		"lost map": {func(r *rig) { r.check(os.Remove(mapFile(r))) }, true, ""},
		"flipped bit": {
			func(r *rig) { flip(r, mapFile(r), func(n int) int { return n / 3 }) }, true,
			"not what was written",
		},
		"flipped bit in the tail": {
			func(r *rig) { flip(r, mapFile(r), func(n int) int { return n - 100 }) }, true,
			"not what was written",
		},
		"cut map": {
			func(r *rig) { r.check(os.Truncate(mapFile(r), 5000)) }, true, "not what was written",
		},
		"empty map": {func(r *rig) { r.check(os.Truncate(mapFile(r), 0)) }, true, "not what was written"},
		"older map": {func(r *rig) { r.check(os.Rename(mapFile(r)+".old", mapFile(r))) }, false, ""},
		"lost bases": {
			func(r *rig) { r.check(os.RemoveAll(r.baseDir)) }, true, "its base file is missing",
		},
		"rotten base": {func(r *rig) {
			path := bases(r, "db/atocore.db")
			data, err := os.ReadFile(path)
			r.check(err)
			r.check(os.Remove(path)) // it is a link: the snapshot's file stays
			for at := 0; at < len(data); at += 4096 {
				data[at] ^= 1
			}
			r.check(os.WriteFile(path, data, 0o600))
		}, true, ""},
		"shorter base": {func(r *rig) {
			path := bases(r, "db/atocore.db")
			r.check(os.Remove(path))
			r.check(os.WriteFile(path, []byte("short"), 0o600))
		}, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			s := newStore(3)
			r.push(r.take(s, stampOf(0), true))
			oldMap, err := os.ReadFile(mapFile(r))
			r.check(err)
			r.check(os.WriteFile(mapFile(r)+".old", oldMap, 0o600))
			s.day()
			second := r.take(s, stampOf(1), true)
			r.push(second)
			c.harm(r)
			s.day()
			third := r.take(s, stampOf(2), true)
			pushed := r.push(third)
			if pushed.Base != c.base || !strings.Contains(strings.Join(pushed.Warnings, "\n"), c.warn) ||
				(c.warn == "") != (len(pushed.Warnings) == 0) {
				t.Errorf("base %v, warnings %q", pushed.Base, pushed.Warnings)
			}
			s.day()
			fourth := r.take(s, stampOf(3), true)
			if pushed := r.push(fourth); len(pushed.Warnings) > 0 {
				t.Errorf("warned again: %q", pushed.Warnings)
			}
			for _, src := range []offsite.Source{second, third, fourth} {
				r.wantPull(src)
			}
		})
	}
}

func TestLostPacksAreHealed(t *testing.T) {
	for name, harm := range map[string]func(r *rig, path string) error{
		"missing":   func(_ *rig, path string) error { return os.Remove(path) },
		"truncated": func(_ *rig, path string) error { return os.Truncate(path, 1000) },
	} {
		for _, layer := range []int{0, 1} { // the first push's packs are bases, the second's patches
			t.Run(fmt.Sprint(name, layer), func(t *testing.T) {
				t.Parallel()
				r := newRig(t)
				s := newStore(5)
				r.push(r.take(s, stampOf(0), true))
				s.day()
				r.push(r.take(s, stampOf(1), true))
				for _, pack := range r.objects("packs") {
					if strings.Contains(pack, string(stampOf(layer))) {
						r.check(harm(r, filepath.Join(r.root, pack)))
					}
				}
				s.day()
				src := r.take(s, stampOf(2), true)
				pushed := r.push(src)
				if len(pushed.Damage) == 0 || !strings.Contains(pushed.Damage[0], "packs/"+string(stampOf(layer))) ||
					pushed.Base != (layer == 0) {
					t.Errorf("%+v", pushed)
				}
				r.wantPull(src)
				r.wantRecover(src)
				s.day()
				src = r.take(s, stampOf(3), true)
				if pushed := r.push(src); len(pushed.Damage) > 0 {
					t.Errorf("damage again: %q", pushed.Damage)
				}
				r.wantPull(src)
			})
		}
	}
}

func TestPacksInTrashAreMovedBack(t *testing.T) {
	r := newRig(t)
	s := newStore(6)
	r.push(r.take(s, stampOf(0), true))
	before := r.objects("packs")
	r.check(os.MkdirAll(filepath.Join(r.root, "trash"), 0o755))
	for _, pack := range before {
		r.check(os.Rename(filepath.Join(r.root, pack), filepath.Join(r.root, "trash", filepath.Base(pack))))
	}
	s.day()
	src := r.take(s, stampOf(1), true)
	if pushed := r.push(src); pushed.Base || len(pushed.Damage) > 0 {
		t.Errorf("%+v", pushed)
	}
	after := r.objects("packs")
	for _, pack := range before {
		if !slices.Contains(after, pack) {
			t.Errorf("%s is not back", pack)
		}
	}
	r.wantPull(src)
}

// Newest first, as sync sends them: what is older uses the map and changes only
// what it knows first.
func TestOlderSnapshotsAfterNewer(t *testing.T) {
	r := newRig(t)
	s := newStore(7)
	var sources []offsite.Source
	for day := range 7 {
		sources = append(sources, r.take(s, stampOf(day), day%3 == 0 && day < 6))
		s.day()
	}
	first := int64(0)
	for i, src := range slices.Backward(sources) {
		pushed := r.push(src)
		if first == 0 {
			first = pushed.Bytes
		}
		// The newest has no chroma: the first full one brings it in, once.
		if want := i == 6 || i == 3; pushed.Base != want || (!want && pushed.Bytes > first/4) {
			t.Errorf("day %d: %+v", i, pushed)
		}
	}
	next := r.take(s, stampOf(8), true)
	if pushed := r.push(next); pushed.Bytes > first/2 {
		t.Errorf("then %+v, after %d", pushed, first)
	}
	for _, src := range append(sources, next) {
		r.wantPull(src)
	}
}

func TestLayersStayBounded(t *testing.T) {
	r := newRig(t)
	ratio := 0.5
	r.options = func(o *offsite.PushOptions) { o.RebaseRatio = ratio }
	s := newStore(8)
	s.files = map[string][]byte{"db/atocore.db": noise(1, 2<<20)}
	whole := r.push(r.take(s, stampOf(0), true)).Bytes

	// A new eighth each day, always the same: the old ones are dead weight, so
	// patches are consolidated and no new base is sent.
	var sources []offsite.Source
	for day := 1; day <= 12; day++ {
		data := bytes.Clone(s.files["db/atocore.db"])
		copy(data, noise(byte(10+day), len(data)/8))
		s.files["db/atocore.db"] = data
		src := r.take(s, stampOf(day), true)
		sources = append(sources, src)
		if pushed := r.push(src); pushed.Base {
			t.Errorf("day %d: a new base for an eighth", day)
		}
		if needed := r.needed(); needed > whole+whole*6/8 {
			t.Errorf("day %d: the snapshot needs %d bytes, the first %d", day, needed, whole)
		}
	}
	// Most of it changes: only a new base helps.
	based := 0
	for day := 13; day <= 18; day++ {
		s.files["db/atocore.db"] = noise(byte(20+day), 2<<20)
		src := r.take(s, stampOf(day), true)
		sources = append(sources, src)
		if pushed := r.push(src); pushed.Base {
			based++
		}
		if needed := r.needed(); needed > 3*whole {
			t.Errorf("day %d: the snapshot needs %d bytes, the first %d", day, needed, whole)
		}
	}
	if based < 2 || based > 3 {
		t.Errorf("%d new bases in 6 days of other bytes", based)
	}
	for _, src := range sources[len(sources)-8:] {
		r.wantPull(src)
	}
	if dirs, err := os.ReadDir(r.baseDir); err != nil || len(dirs) != 1 {
		t.Errorf("base files of %v are kept, %v", dirs, err)
	}
}

// needed returns the bytes of the packs that the newest snapshot refers to.
func (r *rig) needed() (total int64) {
	r.t.Helper()
	stored, _, err := r.vault.Find(context.Background(), "latest", r.signers())
	r.check(err)
	data, err := os.ReadFile(filepath.Join(r.root, "snapshots", string(stored.Push)+".SHA256SUMS"))
	r.check(err)
	for line := range strings.Lines(string(data)) {
		info, err := os.Stat(filepath.Join(r.root, strings.TrimSpace(line[66:])))
		r.check(err)
		if strings.Contains(line, "packs/") {
			total += info.Size()
		}
	}
	return total
}

func TestOtherRecipientsGetANewBase(t *testing.T) {
	r := newRig(t)
	s := newStore(9)
	r.push(r.take(s, stampOf(0), true))
	other := filepath.Join(t.TempDir(), "other.txt")
	recipient, err := crypt.WriteIdentity(other)
	r.check(err)
	r.recipients, err = crypt.ParseRecipients([]string{recipient})
	r.check(err)
	src := r.take(s, stampOf(1), true)
	if pushed := r.push(src); !pushed.Base {
		t.Errorf("no new base: %+v", pushed)
	}
	if _, err := r.pull("latest"); err == nil {
		t.Error("the old key opens what was sent to the new one")
	}
	r.identities, err = crypt.LoadIdentities(other)
	r.check(err)
	r.wantPull(src)
	stored, _, err := r.vault.Find(context.Background(), "latest", r.signers())
	r.check(err)
	who, err := r.vault.Recipients(context.Background(), stored, r.signers(), r.identities)
	r.check(err)
	if len(who) != 1 || who[0] != recipient {
		t.Errorf("it says that %q can open it", who)
	}
}

func TestRebase(t *testing.T) {
	r := newRig(t)
	s := newStore(10)
	r.push(r.take(s, stampOf(0), true))
	src := r.take(s, stampOf(1), true)
	r.push(src)
	r.options = func(o *offsite.PushOptions) { o.Rebase = true }
	if pushed := r.push(src); !pushed.Base {
		t.Errorf("%+v", pushed)
	}
	r.options = nil
	r.wantPull(src)
	s.day()
	src = r.take(s, stampOf(2), true)
	if pushed := r.push(src); pushed.Base {
		t.Errorf("after a rebase: %+v", pushed)
	}
	r.wantPull(src)
}
