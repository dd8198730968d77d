//go:build rig

package app

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/snapshot"
)

// wantKept judges what a prune left by a second, slower implementation of the words
// of the policy: the newest snapshot of each of the last days, the first day's of
// the last weeks and months, where a full one goes before another of that day, and
// the newest one and the newest full one. What lies in the future is kept.
func (y *year) wantKept(where string, got, from []snapshot.Stamp, months int) {
	y.t.Helper()
	now := snapshot.StampOf(time.Now())
	from = slices.DeleteFunc(slices.Clone(from), func(s snapshot.Stamp) bool { return y.lost[s] && where == "there" })
	slices.Sort(from)
	from = slices.Compact(from)
	keep := map[snapshot.Stamp]bool{}
	var past []snapshot.Stamp
	for _, s := range from {
		if s > now {
			keep[s] = true
		} else {
			past = append(past, s)
		}
	}
	day := func(s snapshot.Stamp) string { return string(s[:8]) }
	best := func(bucket func(snapshot.Stamp) string, better func(x, y snapshot.Stamp) bool, n int) {
		held := map[string]snapshot.Stamp{}
		for _, s := range past {
			if old, ok := held[bucket(s)]; !ok || better(s, old) {
				held[bucket(s)] = s
			}
		}
		order := slices.Sorted(maps.Keys(held))
		for _, b := range order[max(0, len(order)-n):] {
			keep[held[b]] = true
		}
	}
	best(day, func(x, old snapshot.Stamp) bool { return x > old }, yearDaily)
	first := func(x, old snapshot.Stamp) bool {
		return day(x) == day(old) && (y.taken[x].full || !y.taken[old].full)
	}
	best(func(s snapshot.Stamp) string {
		return s.Time().AddDate(0, 0, -int(s.Time().Weekday())).Format(time.DateOnly) // its Sunday
	}, first, yearWeekly)
	best(func(s snapshot.Stamp) string { return string(s[:6]) }, first, months)
	for _, full := range []bool{false, true} {
		for _, s := range slices.Backward(past) {
			if !full || y.taken[s].full {
				keep[s] = true
				break
			}
		}
	}
	if want := slices.Sorted(maps.Keys(keep)); !slices.Equal(got, want) {
		y.t.Errorf("%s: kept %s:\n%s\nand the policy keeps\n%s", y.at, where, got, want)
	}
}

// week reads both sides and flips a byte of one of them.
func (y *year) week(a *App, day int) {
	t := y.t
	t.Helper()
	target := a.Config.Offsite[0]
	y.at = "the week after " + y.at
	if doc, err := a.VerifyTarget(t.Context(), target, VerifyBounds{Fraction: 1}); err != nil {
		t.Errorf("%s: verify of what is whole: %v, %v", y.at, err, doc.Findings)
	}
	if doc, err := a.Scrub(t.Context(), time.Now(), ScrubBounds{}); err != nil {
		t.Errorf("%s: scrub of what is whole: %v, %v", y.at, err, doc.Rotten)
	}
	if y.random.IntN(2) == 0 {
		y.flipThere(a)
	} else {
		y.flipHere(a)
	}
}

// flip flips a byte of a file, at random.
func (y *year) flip(name string) {
	y.t.Helper()
	info, err := os.Stat(name)
	y.must(err)
	data, err := os.ReadFile(name)
	y.must(err)
	data[y.random.IntN(len(data))] ^= 1 << y.random.IntN(8)
	y.must(os.WriteFile(name, data, 0o600))
	y.must(os.Chtimes(name, info.ModTime(), info.ModTime())) // rot changes no times
}

// flipHere flips a byte of a snapshot: the scrub names each that has it, and the
// vault heals them.
func (y *year) flipHere(a *App) {
	t := y.t
	t.Helper()
	files := slices.Sorted(maps.Keys(y.files(y.path("backups/snapshots"))))
	name := files[y.random.IntN(len(files))]
	y.at += ", " + name
	y.counts[flippedHere]++
	y.flip(name)
	var want []snapshot.Stamp
	for _, stamp := range y.stampsHere() {
		if y.sum(y.here(stamp)) != y.taken[stamp].sum {
			want = append(want, stamp)
		}
	}
	doc, err := a.Scrub(t.Context(), time.Now(), ScrubBounds{})
	slices.Sort(doc.Rotten)
	if failure.KindOf(err) != failure.Invalid || !slices.Equal(doc.Rotten, want) {
		t.Errorf("%s: scrub says %v, %v; rotten is %v", y.at, err, doc.Rotten, want)
		return
	}
	y.counts[flippedHere+toldSuffix]++
	fixed, err := a.Repair(t.Context(), time.Now(), RepairRequest{From: "disk", Identity: y.key, Confirm: true})
	if err != nil {
		t.Errorf("%s: repair: %v, %+v", y.at, err, fixed)
	}
	y.counts[flippedHere+healedSuffix]++
}

// flipThere flips a byte of an object of the vault: the verify names it, and the next
// push mends it from what is still here, or says which snapshots are lost.
func (y *year) flipThere(a *App) {
	t := y.t
	t.Helper()
	files := slices.Sorted(maps.Keys(y.files(y.vault(""))))
	files = slices.DeleteFunc(files, func(name string) bool {
		top, _, _ := strings.Cut(strings.TrimPrefix(name, y.vault("")+"/"), "/")
		return !slices.Contains([]string{"packs", "snapshots", "policy", "host", "recover.py", "README.txt"}, top)
	})
	name := files[y.random.IntN(len(files))]
	object := strings.TrimPrefix(name, y.vault("")+"/")
	y.at += ", " + object
	y.counts[flippedThere]++
	y.flip(name)
	target := a.Config.Offsite[0]
	doc, err := a.VerifyTarget(t.Context(), target, VerifyBounds{Fraction: 1})
	named := slices.ContainsFunc(doc.Findings, func(f offsite.Finding) bool {
		// Of a document and its signature that do not agree none is known to be the damaged one.
		return f.Object == object || f.Object == strings.TrimSuffix(object, ".sig") ||
			f.Object == filepath.Dir(object)+"/"
	})
	switch {
	case err == nil && len(doc.Findings) == 0 && !y.needs(object):
		y.counts[flippedThere+spareObject]++
		return
	case failure.KindOf(err) != failure.Invalid || !named:
		t.Errorf("%s: verify says %v, %v", y.at, err, doc.Findings)
		return
	}
	y.counts[flippedThere+toldSuffix]++
	synced, err := a.Sync(t.Context(), "", false)
	y.must(err)
	after, err := a.VerifyTarget(t.Context(), target, VerifyBounds{Fraction: 1})
	if err == nil {
		y.counts[flippedThere+healedSuffix]++
		return
	}
	here := y.stampsHere()
	lost := map[snapshot.Stamp]bool{}
	for _, f := range after.Findings {
		for _, stamp := range f.Stamps {
			lost[stamp] = true
			if slices.Contains(here, stamp) {
				t.Errorf("%s: %s is here, and still damaged there: %v", y.at, stamp, after.Findings)
			}
			if !strings.Contains(strings.Join(synced[0].Warnings, "\n"), string(stamp)) {
				t.Errorf("%s: sync does not say that %s is lost: %q", y.at, stamp, synced[0].Warnings)
			}
		}
	}
	if len(lost) == 0 {
		t.Errorf("%s: not healed, and nothing lost: %v, %v", y.at, err, after.Findings)
		return
	}
	y.counts[flippedThere+namedAsLost]++
	v, err := a.OpenVaultTarget(t.Context(), target, nil)
	y.must(err)
	for stamp := range lost {
		y.lost[stamp] = true
		y.counts["snapshots lost there"]++
		_, err := v.ForgetSnapshot(t.Context(), string(stamp))
		y.must(err)
	}
	y.must(v.Close())
	_, err = a.Sync(t.Context(), "", false)
	y.must(err)
}

// needs reports whether a list of a push names the object.
func (y *year) needs(object string) bool {
	y.t.Helper()
	if !strings.HasPrefix(object, "packs/") {
		return true
	}
	lists, err := filepath.Glob(y.vault("snapshots/*.SHA256SUMS"))
	y.must(err)
	for _, list := range lists {
		text, err := os.ReadFile(list)
		y.must(err)
		if strings.Contains(string(text), object) {
			return true
		}
	}
	return false
}

func (y *year) drill(a *App) {
	y.t.Helper()
	result, err := a.Drill(y.t.Context(), "latest", time.Time{}, "")
	if err != nil {
		y.t.Errorf("%s: drill: %v, %+v", y.at, err, result)
	}
	y.counts["drills passed"]++
}

// wantAll restores whatever is kept there, and looks at whatever is kept here.
func (y *year) wantAll(a *App) {
	t := y.t
	t.Helper()
	for _, stamp := range y.stampsHere() {
		if y.sum(y.here(stamp)) != y.taken[stamp].sum {
			t.Errorf("%s is another here", stamp)
		}
		y.counts["snapshots here that are whole"]++
	}
	identities, err := a.Identities(y.key)
	y.must(err)
	v, err := a.OpenVaultTarget(t.Context(), a.Config.Offsite[0], nil)
	y.must(err)
	defer v.Close()
	size := func() (bytes int) {
		for _, info := range y.files(y.vault("")) {
			bytes += int(info.Size())
		}
		return bytes
	}
	before := size()
	y.ageVault(10) // whatever was under way is not any more
	_, err = v.Thin(t.Context(), time.Now(), offsite.PruneOptions{Confirm: true, Now: true})
	y.must(err)
	for name := range y.files(y.vault("")) {
		object := strings.TrimPrefix(name, y.vault(""))
		if top, _, _ := strings.Cut(object[1:], "/"); top == "incoming" || top == "trash" || !y.needs(object[1:]) {
			t.Errorf("garbage is left: %s", object)
		}
	}
	y.counts["bytes in the vault, waiting ones included"], y.counts["bytes in the vault"] = before, size()
	to := y.path("out")
	for i, stamp := range y.stampsThere(a) {
		if _, _, err := v.Restore(t.Context(), string(stamp), identities, to, false, nil); err != nil {
			t.Errorf("%s: %v", stamp, err)
		} else if y.sum(to) != y.taken[stamp].sum {
			t.Errorf("%s came back as another", stamp)
		}
		y.must(os.RemoveAll(to))
		y.counts[snapshotsBack]++
		if i == 0 { // also without this program
			if out, err := exec.Command("python3", "-I", y.vault("recover.py"), string(stamp), "--identity", y.key,
				"--to", to).CombinedOutput(); err != nil || y.sum(to) != y.taken[stamp].sum {
				t.Errorf("recover.py of %s: %v, %s", stamp, err, out)
			}
			y.must(os.RemoveAll(to))
		}
	}
}
