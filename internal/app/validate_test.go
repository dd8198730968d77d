package app

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/snapshot"
)

// What a validation says, and what is remembered of it.
func TestValidate(t *testing.T) {
	for _, test := range []struct {
		name       string
		harm       func(t *testing.T, h *house, dir string)
		required   []string
		valid      bool
		code       string
		finding    bool
		remembered bool
	}{
		{"well", nil, nil, true, "", false, true},
		{"a torn file", func(t *testing.T, h *house, dir string) { rot(t, dir+snapshot.DBFile) }, nil, false,
			"checksum_mismatch", true, true},
		{"a file that is gone", func(t *testing.T, h *house, dir string) {
			if err := os.Remove(dir + snapshot.DBFile); err != nil {
				t.Fatal(err)
			}
		}, nil, false, snapshot.DBFile, true, true},
		{"a file too many", func(t *testing.T, h *house, dir string) { put(t, dir+"db/extra", "x") }, nil, false,
			"db/extra", true, true},
		{"a table that AtoCore needs", nil, []string{"memories"}, false, "memories", true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h, a, stamp := newOpened(t, "")
			a.Config.AtoCore.RequiredTables = test.required
			if test.harm != nil {
				test.harm(t, h, h.path("backups/snapshots/"+string(stamp))+"/")
			}
			result, err := a.Validate(t.Context(), stamp)
			if err != nil || !result.Exists || result.Valid != test.valid ||
				!strings.Contains(strings.Join(result.Errors, " "), test.code) {
				t.Fatalf("%+v, %v", result, err)
			}
			v, ok, err := a.history.Validation(t.Context(), string(stamp))
			if err != nil || ok != test.remembered || v.Valid != test.valid || len(v.Errors) != len(result.Errors) {
				t.Errorf("%+v, %v, %v", v, ok, err)
			}
			found, err := a.findings()
			if f, ok := found[string(stamp)]; err != nil || ok != test.finding || ok && f.By != "validate" {
				t.Errorf("%+v, %v", found, err)
			}
		})
	}
}

// What does not exist is a result, and nothing is remembered of it.
func TestValidateNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	result, err := a.Validate(t.Context(), "20200101T000000Z")
	if err != nil || result.Exists || result.Valid {
		t.Errorf("%+v, %v", result, err)
	}
	if _, ok, err := a.history.Validation(t.Context(), "20200101T000000Z"); ok || err != nil {
		t.Errorf("it is remembered: %v", err)
	}
}

// A snapshot that was taken invalid is no damage: nothing of it was ever lost.
func TestValidateOfOneThatWasTakenInvalid(t *testing.T) {
	t.Parallel()
	h, a, _ := newOpened(t, "")
	stamp := h.plant(time.Now().Add(-2*time.Hour), bornInvalid)
	rot(t, h.path("backups/snapshots/"+string(stamp)+"/"+snapshot.DBFile))
	if result, err := a.Validate(t.Context(), stamp); err != nil || result.Valid {
		t.Fatalf("%+v, %v", result, err)
	}
	if found, err := a.findings(); err != nil || len(found) != 0 {
		t.Errorf("%v, %v", found, err)
	}
	for _, test := range []struct {
		stamp        snapshot.Stamp
		valid, known bool
	}{{stamp, false, true}, {"20200101T000000Z", false, false},
		{h.madeByAtoCore(time.Now().Add(-3*time.Hour), false), true, true}} {
		if valid, known := a.bornValid(test.stamp); valid != test.valid || known != test.known {
			t.Errorf("%s: %v, %v", test.stamp, valid, known)
		}
	}
}

// Whoever only looks changes nothing, and says the same.
func TestValidateOfAReader(t *testing.T) {
	t.Parallel()
	h, a, stamp := newOpened(t, "")
	rot(t, h.path("backups/snapshots/"+string(stamp)+"/"+snapshot.DBFile))
	a.Options.ReadOnly = true
	if result, err := a.Validate(t.Context(), stamp); err != nil || result.Valid {
		t.Errorf("%+v, %v", result, err)
	}
	_, ok, err := a.history.Validation(t.Context(), string(stamp))
	if found, findErr := a.findings(); ok || err != nil || len(found) != 0 || findErr != nil {
		t.Errorf("written down: %v, %v, %v", found, err, findErr)
	}
}

// Work that failed because of what is in a snapshot makes everybody know; a failure
// for another reason does not.
func TestConfirmDamage(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	invalid := &failure.Error{Op: "drill", Kind: failure.Invalid}
	for _, test := range []struct {
		name   string
		ctx    context.Context
		err    error
		rotten bool
		found  bool
	}{
		{"damage", t.Context(), invalid, true, true},
		{"an answer that was no", t.Context(), invalid, false, false},
		{"no room", t.Context(), &failure.Error{Kind: failure.NoSpace}, true, false},
		{"nothing", t.Context(), nil, true, false},
		{"cut short", cancelled, invalid, true, false},
		{"something else", t.Context(), errors.New("x"), true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h, a, stamp := newOpened(t, "")
			if test.rotten {
				rot(t, h.path("backups/snapshots/"+string(stamp)+"/"+snapshot.DBFile))
			}
			a.confirmDamage(test.ctx, stamp, test.err)
			if found, err := a.findings(); err != nil || (len(found) > 0) != test.found {
				t.Errorf("%v, %v", found, err)
			}
		})
	}
}

// Which snapshots nobody has looked at, or may be good again.
func TestNeedsValidation(t *testing.T) {
	yes, no := true, false
	dir := t.TempDir()
	for _, test := range []struct {
		name string
		s    snapshot.Snapshot
		want bool
	}{
		{"never looked at", snapshot.Snapshot{}, true},
		{"ours and good", snapshot.Snapshot{Valid: &yes, Manifest: &snapshot.Manifest{}}, false},
		{"ours and bad", snapshot.Snapshot{Valid: &no, Manifest: &snapshot.Manifest{}}, false},
		{"theirs, good, and can be adopted", snapshot.Snapshot{Valid: &yes, Path: dir}, true},
		{"theirs, good, and is gone", snapshot.Snapshot{Valid: &yes, Path: dir + "/none"}, false},
		{"theirs and bad since lately", snapshot.Snapshot{Valid: &no, Checked: noon.Add(-time.Hour)}, false},
		{"theirs and bad since long", snapshot.Snapshot{Valid: &no, Checked: noon.Add(-validateAgain)}, true},
	} {
		if got := needsValidation(&test.s, noon); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

// What AtoCore made is looked at once, and taken over when it is good.
func TestValidateUnseen(t *testing.T) {
	t.Parallel()
	h, a, own := newOpened(t, "")
	good := h.madeByAtoCore(time.Now().Add(-2*time.Hour), false)
	bad := h.madeByAtoCore(time.Now().Add(-3*time.Hour), true)
	list, _, err := a.Snapshots(t.Context(), time.Now())
	if err != nil || len(list) != 3 {
		t.Fatal(list, err)
	}
	if err := a.validateUnseen(t.Context(), list, time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		stamp          snapshot.Stamp
		valid, adopted bool
		kind           snapshot.Kind
	}{{own, true, true, snapshot.Daily}, {good, true, true, snapshot.Adopted}, {bad, false, false, snapshot.Adopted}} {
		i := slices.IndexFunc(list, func(s snapshot.Snapshot) bool { return s.Stamp == test.stamp })
		s, err := a.Find(t.Context(), string(test.stamp), time.Now())
		if err != nil || s.IsValid() != test.valid || list[i].IsValid() != test.valid ||
			(s.Manifest != nil) != test.adopted || test.adopted && s.Kind != test.kind {
			t.Errorf("%s: %+v, %v", test.stamp, s, err)
		}
	}
	v, ok, err := a.history.Validation(t.Context(), string(bad))
	if err != nil || !ok || v.Valid || len(v.Errors) == 0 {
		t.Errorf("%+v, %v, %v", v, ok, err)
	}
	if _, ok, err := a.history.Validation(t.Context(), string(own)); ok || err != nil {
		t.Errorf("ours was read again: %v", err)
	}
}
