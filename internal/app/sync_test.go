package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/offsite/sftp"
	"github.com/atocore/atobackupd/retention"
	"github.com/atocore/atobackupd/snapshot"
)

func failed(kind failure.Kind) error {
	return withTarget("disk", &failure.Error{Op: "sync", Kind: kind, Err: errors.New("why")})
}

// Each way in which a target can fail has its state.
func TestStateOf(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{nil, "ok"},
		{failed(failure.Unreachable), "unreachable"},
		{failed(failure.Auth), "auth_failed"},
		{failed(failure.HostKey), "host_key_mismatch"},
		{&failure.Error{Kind: failure.HostKey, Err: sftp.ErrHostKeyUnknown}, "host_key_unknown"},
		{&failure.Error{Kind: failure.HostKey, Err: sftp.ErrHostKeyChanged}, "host_key_mismatch"},
		{&failure.Error{Kind: failure.HostKey, Err: errors.Join(sftp.ErrHostKeyUnknown, sftp.ErrHostKeyChanged)},
			"host_key_mismatch"},
		{failed(failure.VaultMismatch), "vault_mismatch"},
		{failed(failure.NoSpace), "no_space"},
		{failed(failure.Stale), "stale"},
		{failed(failure.Locked), "error"},
		{failed(failure.Refused), "error"},
		{failed(failure.Invalid), "error"},
		{errors.New("permission denied"), "error"},
		{fmt.Errorf("wrapped: %w", failed(failure.Auth)), "auth_failed"},
	} {
		if got := stateOf(test.err); got != test.want {
			t.Errorf("%v: %s, want %s", test.err, got, test.want)
		}
	}
}

// What several targets come to: unreachable only where nothing worse happened.
func TestSyncFailure(t *testing.T) {
	const fine = failure.Kind(-1)
	for _, test := range []struct {
		name string
		errs []error
		want failure.Kind
		text string
	}{
		{"no target", nil, fine, ""},
		{"all are done", []error{nil, nil}, fine, ""},
		{"one is away", []error{nil, failed(failure.Unreachable)}, failure.Unreachable, "tried again"},
		{"all are away", []error{failed(failure.Unreachable), failed(failure.Unreachable)}, failure.Unreachable, "; "},
		{"one is away and one is wrong", []error{failed(failure.Unreachable), failed(failure.Auth)}, failure.Other,
			"; "},
		{"no space", []error{failed(failure.NoSpace), nil}, failure.Other, "why"},
		{"one is locked", []error{failed(failure.Locked), nil, failed(failure.Unreachable)}, failure.Locked, "why"},
		{"one is locked and one is wrong", []error{failed(failure.Locked), failed(failure.Auth)}, failure.Other, "; "},
		{"interrupted", []error{failed(failure.Auth), failed(failure.Interrupted)}, failure.Interrupted, "why"},
	} {
		var docs []Synced
		for _, err := range test.errs {
			docs = append(docs, Synced{err: err})
		}
		err := syncFailure(docs)
		if test.want == fine {
			if err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
			continue
		}
		if err == nil || failure.KindOf(err) != test.want || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// After which errors a target is left alone until the next time.
func TestGaveUp(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		ctx  context.Context
		err  error
		want bool
	}{
		{t.Context(), nil, false},
		{t.Context(), failed(failure.Unreachable), true},
		{t.Context(), failed(failure.Interrupted), true},
		{t.Context(), failed(failure.Auth), true},
		{t.Context(), failed(failure.HostKey), true},
		{t.Context(), failed(failure.NoSpace), false}, // a prune may make room
		{t.Context(), failed(failure.Stale), false},
		{t.Context(), errors.New("x"), false},
		{cancelled, errors.New("connection closed"), true},
		{cancelled, nil, true},
	} {
		if got := gaveUp(test.ctx, test.err); got != test.want {
			t.Errorf("%v: %v", test.err, got)
		}
	}
}

// The error of a sync that found damage: what is wrong, whether it was mended, and
// what is worse than either.
func TestDamageFound(t *testing.T) {
	pack := offsite.Finding{Object: "packs/ab.age", What: "missing"}
	push := offsite.Finding{Object: "snapshots/20260407T060000Z-1", What: "gone", Gone: true}
	stale := failed(failure.Stale)
	for _, test := range []struct {
		name   string
		s      shipment
		mended []string
		kind   failure.Kind
		text   string
		hint   string
	}{
		{"mended", shipment{news: []offsite.Finding{pack}}, []string{"packs/ab.age"}, failure.Other,
			"packs/ab.age: missing", "sent anew"},
		{"not mended", shipment{news: []offsite.Finding{pack}}, nil, failure.Other, "packs/ab.age: missing",
			"vault forget STAMP"},
		{"a push was taken away", shipment{news: []offsite.Finding{pack, push}}, nil, failure.Stale,
			"packs/ab.age: missing; snapshots/20260407T060000Z-1: gone", "vault verify"},
		{"rolled back", shipment{news: []offsite.Finding{pack}, stale: stale}, nil, failure.Stale, "why", ""},
	} {
		err := damageFound(test.s, test.mended)
		if failure.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.text) ||
			!strings.Contains(failure.HintOf(err), test.hint) {
			t.Errorf("%s: %v (%s)", test.name, err, failure.HintOf(err))
		}
	}
}

// What was valid when it was taken and is not any more is wanted there all the
// same, so that its absence is said.
func TestAsTaken(t *testing.T) {
	no := false
	since := taken(-1, snapshot.Daily)
	since.Valid, since.Manifest.Validation.Valid = &no, true
	bornSo := taken(-2, snapshot.Daily)
	bornSo.Valid = &no
	theirs := taken(-3, snapshot.Adopted)
	theirs.Valid, theirs.Manifest = &no, nil
	list := []snapshot.Snapshot{theirs, bornSo, since, taken(0, snapshot.Daily)}
	var plan []retention.Snapshot
	for _, s := range list {
		plan = append(plan, ForRetention(s))
	}
	got := asTaken(list, plan)
	for i, want := range []bool{false, false, true, true} {
		if got[i].Valid != want || damagedSince(list[i]) != (i == 2) {
			t.Errorf("%s: %v", list[i].Stamp, got[i].Valid)
		}
	}
	if plan[2].Valid {
		t.Error("the plan itself was changed")
	}
}

// What a new base is made of: the newest full one, and what is newer.
func TestRebased(t *testing.T) {
	const daily, weekly = snapshot.Daily, snapshot.Weekly
	for _, test := range []struct {
		name string
		list []snapshot.Snapshot
		want []int
	}{
		{"nothing", nil, nil},
		{"only a bare one", []snapshot.Snapshot{taken(-1, daily)}, []int{-1}},
		{"the full one is the newest", []snapshot.Snapshot{taken(-2, daily), taken(-1, weekly)}, []int{-1}},
		{"a newer bare one", []snapshot.Snapshot{taken(-3, weekly), taken(-2, daily), taken(-1, daily)},
			[]int{-3, -1}},
		{"of the future", []snapshot.Snapshot{taken(-1, daily), taken(1, weekly)}, []int{-1}},
		{"before a restore", []snapshot.Snapshot{taken(-2, weekly), taken(-1, snapshot.PreRestore)}, []int{-2}},
	} {
		var got, want []snapshot.Stamp
		for _, day := range test.want {
			want = append(want, taken(day, daily).Stamp)
		}
		for _, s := range rebased(test.list, noon) {
			got = append(got, s.Stamp)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", test.name, got, want)
		}
	}
}

// States of a target, each made for real: what sync says of it and what the
// command ends with.
func TestSyncStates(t *testing.T) {
	for _, test := range []struct {
		name, more  string
		harm        func(t *testing.T, h *house, a *App)
		state, text string
		kind        failure.Kind
	}{
		{"well", "", func(*testing.T, *house, *App) {}, "ok", "", failure.Other},
		{"its disk is not mounted", "removable = true\n", func(t *testing.T, h *house, _ *App) {
			h.move("vault", "vault.away")
		}, "unreachable", "", failure.Unreachable},
		{"its directory is gone", "", func(t *testing.T, h *house, _ *App) {
			h.move("vault", "vault.away")
		}, "vault_mismatch", "is its disk mounted?", failure.Other},
		{"it is empty now", "", func(t *testing.T, h *house, _ *App) {
			h.move("vault", "vault.away")
			if err := os.Mkdir(h.path("vault"), 0o700); err != nil {
				t.Fatal(err)
			}
		}, "vault_mismatch", "is its disk mounted? `mount -a`", failure.Other},
		{"another vault lies there", "", func(t *testing.T, h *house, a *App) {
			state, err := offsite.LoadState(a.Config.StateDir, "disk")
			if err != nil {
				t.Fatal(err)
			}
			state.VaultID = "0123456789abcdef0123456789abcdef"
			state.Pushes = nil
			if err := state.Save(); err != nil {
				t.Fatal(err)
			}
		}, "vault_mismatch", "is the right disk mounted? `mount -a`", failure.Other},
		{"its newest push was taken away", "", func(t *testing.T, h *house, _ *App) {
			names, err := filepath.Glob(h.path("vault/snapshots/*"))
			if err != nil || len(names) == 0 {
				t.Fatalf("%v, %v", names, err)
			}
			for _, name := range names {
				if err := os.Remove(name); err != nil {
					t.Fatal(err)
				}
			}
		}, "stale", "", failure.Other},
		{"its state cannot be read", "", func(t *testing.T, h *house, _ *App) {
			h.write("state/targets/disk/state.json", "{")
		}, "error", "state.json", failure.Other},
		{"its findings cannot be read", "", func(t *testing.T, h *house, _ *App) {
			h.write("state/targets/disk/checks.json", "{")
		}, "error", "checks.json", failure.Other},
		{"nobody can read what is sealed", "", func(_ *testing.T, _ *house, a *App) {
			a.Config.Encryption.Recipients = []string{"age1nobody"}
		}, "error", "recipient 1", failure.Other},
		{"somebody works on it", "", func(t *testing.T, h *house, a *App) {
			a.Options.LockTimeout = 0
			lock, err := offsite.LockTarget(t.Context(), a.Config.StateDir, "disk", "a prune", 0, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { lock.Unlock() })
		}, "error", "a prune", failure.Locked},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, test.more)
			a := h.open()
			defer a.Close()
			h.backup(a)
			if _, err := a.Sync(t.Context(), "", false); err != nil {
				t.Fatal(err)
			}
			test.harm(t, h, a)
			docs, err := a.Sync(t.Context(), "disk", false)
			if len(docs) != 1 || docs[0].State != test.state {
				t.Fatalf("%+v, %v", docs, err)
			}
			if (err == nil) != (test.state == "ok") || docs[0].Error == "" != (err == nil) {
				t.Errorf("%v, %q", err, docs[0].Error)
			}
			if err != nil && (!strings.HasPrefix(docs[0].Error, "target disk: ") ||
				!strings.Contains(docs[0].Error, test.text) || failure.KindOf(err) != test.kind) {
				t.Errorf("%v (kind %d)", err, failure.KindOf(err))
			}
			run, found, err := a.history.LastRun(t.Context(), "sync:disk")
			if err != nil || !found || (run.Outcome == "ok") != (test.state == "ok") {
				t.Errorf("the run: %+v, %v", run, err)
			}
		})
	}
}

// The document of sync has the keys that scripts read, and lists that are lists.
func TestSyncDocument(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	taken := h.backup(a)
	docs, err := a.Sync(t.Context(), "", false)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(docs[0])
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	keys := []string{"error", "pruned", "pushed", "skipped", "state", "target", "warnings"}
	if got := slices.Sorted(maps.Keys(doc)); !slices.Equal(got, keys) {
		t.Errorf("keys: %q", got)
	}
	pushed := doc["pushed"].([]any)[0].(map[string]any)
	keys = []string{"base", "bytes", "duration_ms", "packs", "stamp"}
	if got := slices.Sorted(maps.Keys(pushed)); !slices.Equal(got, keys) || pushed["stamp"] != string(taken.Stamp) ||
		pushed["base"] != true || pushed["bytes"].(float64) <= 0 {
		t.Errorf("pushed: %v", pushed)
	}
	docs, err = a.Sync(t.Context(), "", false)
	if err != nil || len(docs[0].Pushed) != 0 || docs[0].State != "ok" {
		t.Errorf("the second time: %+v, %v", docs, err)
	}
	if data, err = json.Marshal(docs[0]); err != nil || !strings.Contains(string(data), `"pushed":[],"skipped":[]`) {
		t.Errorf("%s, %v", data, err)
	}
	for _, test := range []struct {
		name string
		kind failure.Kind
		text string
	}{{"other", failure.Usage, "configured are: disk"}, {"disk ", failure.Usage, "no such target"}} {
		if docs, err := a.Sync(t.Context(), test.name, false); failure.KindOf(err) != test.kind || docs != nil ||
			!strings.Contains(err.Error(), test.text) {
			t.Errorf("%q: %v, %v", test.name, docs, err)
		}
	}
}

// Newest first: the most valuable arrives before the lid closes. What was pruned
// meanwhile is forgotten.
func TestSyncSendsTheNewestFirst(t *testing.T) {
	t.Parallel()
	h, a, middle := newOpened(t, "")
	oldest := h.plant(time.Now().Add(-3*time.Hour), nil)
	newest := h.plant(time.Now().Add(-time.Minute), nil)
	gone := h.plant(time.Now().Add(-2*time.Hour), nil)
	dry, err := a.Sync(t.Context(), "", true)
	if err != nil || len(dry[0].Skipped) != 4 || len(dry[0].Pushed) != 0 {
		t.Fatalf("%+v, %v", dry, err)
	}
	stop := fsx.Observe(func(op fsx.Op, path string) error { // it goes as soon as anything is sent
		if strings.Contains(path, h.path("vault")) {
			return os.RemoveAll(h.path("backups/snapshots/" + string(gone)))
		}
		return nil
	})
	docs, err := a.Sync(t.Context(), "", false)
	stop()
	if err != nil {
		t.Fatal(err)
	}
	var sent []snapshot.Stamp
	for _, p := range docs[0].Pushed {
		sent = append(sent, p.Stamp)
	}
	if want := []snapshot.Stamp{newest, middle, oldest}; !slices.Equal(sent, want) || len(docs[0].Skipped) != 0 {
		t.Errorf("sent %v, want %v; skipped %v", sent, want, docs[0].Skipped)
	}
	if dry, err = a.Sync(t.Context(), "", true); err != nil || len(dry[0].Skipped) != 0 {
		t.Errorf("what is left to do: %+v, %v", dry, err)
	}
}

// What is damaged here is not sent, and that is said; the others go.
func TestSyncSkipsWhatIsDamagedHere(t *testing.T) {
	t.Parallel()
	h, a, bad := newOpened(t, "")
	good := h.plant(time.Now().Add(-time.Minute), nil)
	a.noteValidation(t.Context(), bad, false, []string{"checksum_mismatch: db/atocore.db"}, "scrub")
	docs, err := a.Sync(t.Context(), "", false)
	if err == nil || docs[0].State != "error" || !slices.Equal(docs[0].Skipped, []string{string(bad)}) ||
		len(docs[0].Pushed) != 1 || docs[0].Pushed[0].Stamp != good ||
		!strings.Contains(docs[0].Error, "1 snapshot not sent") ||
		!strings.Contains(strings.Join(docs[0].Warnings, " "), "damaged here: checksum_mismatch") {
		t.Errorf("%v, %+v", err, docs)
	}
}

// Whatever lies in the place of a file of a target's state, a sync does not wait for it:
// it goes on without the file, or names it and what to do.
func TestSyncOverOddState(t *testing.T) {
	kinds := map[string]func(path string) error{
		"pipe":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"link":      func(path string) error { return os.Symlink("nowhere", path) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
	}
	well := map[string]string{}
	for _, test := range []struct {
		name string
		text map[string]string // of the error, by what lies there; else it goes well
	}{
		{"map", map[string]string{"directory": "/map: a directory lies in its place: move it away: the next sync sends a " +
			"new base"}},
		{"map.new", well},
		{"s3.json", well},
		{"spool/STAMP/journal", well},
		{"spool/STAMP/sealed", well},
		{"spool/STAMP/manifest.age", well},
		{"spool/STAMP/map", well},
		{"state.json", map[string]string{"pipe": "remove the file, then run `atobackupd vault init",
			"link": "remove the file, then run `atobackupd vault init", "directory": "then run `atobackupd vault init"}},
		{"checks.json", map[string]string{"pipe": "remove the file: the next verify", "link": "remove the file",
			"directory": "remove the file"}},
	} {
		for kind, lay := range kinds {
			t.Run(test.name+" "+kind, func(t *testing.T) {
				t.Parallel()
				h := newHouse(t, "")
				a := h.open()
				defer a.Close()
				syncOnce(t, h, a)
				taken := h.backup(a)
				path := h.path("state/targets/disk/" + strings.Replace(test.name, "STAMP", string(taken.Stamp), 1))
				err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.RemoveAll(path), lay(path))
				if err != nil {
					t.Fatal(err)
				}
				done := make(chan error)
				go func() {
					_, err := a.Sync(t.Context(), "", false)
					done <- err
				}()
				select {
				case err = <-done:
				case <-time.After(2 * time.Minute):
					t.Fatal("the sync waits for it")
				}
				if want := test.text[kind]; (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("%v", err)
				}
			})
		}
	}
}
