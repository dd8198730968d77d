package app

import (
	"database/sql"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/snapshot"
)

// taken makes a snapshot of a day at noon, as its manifest would say it.
func taken(day int, kind snapshot.Kind, codes ...string) snapshot.Snapshot {
	valid := true
	return snapshot.Snapshot{Stamp: snapshot.StampOf(noon.AddDate(0, 0, day)), Kind: kind,
		Full: kind != snapshot.Daily, Valid: &valid, Manifest: &snapshot.Manifest{Suspect: codes}}
}

// Which takes are suspect still, by what the later ones hold.
func TestSuspects(t *testing.T) {
	const daily, weekly = snapshot.Daily, snapshot.Weekly
	accepted := taken(-1, daily, "db_shrunk")
	accepted.Manifest.AcceptedAt = &noon
	broken := taken(0, daily, "db_shrunk")
	broken.Valid = new(bool)
	foreign := taken(0, daily)
	foreign.Manifest = nil
	for _, test := range []struct {
		name string
		list []snapshot.Snapshot
		want []int // days of those that are suspect
	}{
		{"none", nil, nil},
		{"all are well", []snapshot.Snapshot{taken(-2, weekly), taken(-1, daily)}, nil},
		{"the newest", []snapshot.Snapshot{taken(-1, daily), taken(0, daily, "db_shrunk")}, []int{0}},
		{"a row of them", []snapshot.Snapshot{taken(-1, daily, "db_shrunk"), taken(0, daily, "db_shrunk")},
			[]int{-1, 0}},
		{"the next is well", []snapshot.Snapshot{taken(-1, daily, "db_shrunk"), taken(0, daily)}, nil},
		{"a full one of the database, and a bare one that is well",
			[]snapshot.Snapshot{taken(-1, weekly, "db_table_emptied"), taken(0, daily)}, nil},
		{"the vector store, and a bare one that says nothing of it",
			[]snapshot.Snapshot{taken(-1, weekly, "chroma_shrunk"), taken(0, daily)}, []int{-1}},
		{"the vector store, and a full one that is well",
			[]snapshot.Snapshot{taken(-1, weekly, "chroma_shrunk"), taken(0, weekly)}, nil},
		{"accepted", []snapshot.Snapshot{taken(-2, daily), accepted}, nil},
		{"accepted after others", []snapshot.Snapshot{taken(-2, daily, "db_shrunk"), accepted}, nil},
		{"one that is not valid says nothing", []snapshot.Snapshot{taken(-1, daily), broken}, nil},
		{"one of the future says nothing", []snapshot.Snapshot{taken(-1, daily, "db_shrunk"), taken(1, daily)},
			[]int{-1}},
		{"one that AtoCore made says nothing", []snapshot.Snapshot{taken(-1, daily, "db_shrunk"), foreign}, []int{-1}},
		{"one of before a restore says nothing",
			[]snapshot.Snapshot{taken(-1, daily, "db_shrunk"), taken(0, snapshot.PreRestore)}, []int{-1}},
	} {
		var want, got []string
		for _, day := range test.want {
			want = append(want, string(taken(day, daily).Stamp))
		}
		for _, s := range suspects(test.list, noon.Add(time.Hour)) {
			got = append(got, s.Stamp)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", test.name, got, want)
		}
	}
}

// The change of a take is accepted with that of those before it that met the same
// loss, and of no other.
func TestAccept(t *testing.T) {
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	change := func(statement string) {
		t.Helper()
		db, err := sql.Open("sqlite", h.path("data/a.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	take := func() snapshot.Stamp {
		t.Helper()
		taken, err := a.Backup(t.Context(), snapshot.Manual, false, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		return taken.Stamp
	}
	const many = `WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x < 200) INSERT INTO u SELECT ` +
		`x FROM n`
	change("CREATE TABLE u (x); " + many)
	well := take()
	change("DELETE FROM u WHERE x > 20")
	shrunk := take()
	change("DELETE FROM t")
	emptied, again := take(), take()

	waits := func() (stamps []snapshot.Stamp) {
		t.Helper()
		facts, _ := a.Facts(t.Context(), time.Now())
		for _, s := range facts.Shrunk {
			stamps = append(stamps, snapshot.Stamp(s.Stamp))
		}
		return stamps
	}
	if got := waits(); !slices.Equal(got, []snapshot.Stamp{shrunk, emptied, again}) {
		t.Fatalf("suspect: %v", got)
	}
	plan, err := a.Prune(t.Context(), time.Now().AddDate(0, 0, 20), true, false)
	if err != nil || !slices.ContainsFunc(plan.Keep, func(v PruneVerdict) bool {
		return v.Stamp == string(well) && strings.Contains(strings.Join(v.Reasons, "; "), "which is suspect")
	}) {
		t.Errorf("what was well before is not kept: %+v, %v", plan.Keep, err)
	}
	for _, stamp := range []snapshot.Stamp{well, "20000101T000000Z"} {
		if err := a.Accept(t.Context(), stamp); failure.KindOf(err) != failure.Usage {
			t.Errorf("%s is accepted: %v", stamp, err)
		}
	}
	// The first had shrunk and the later ones have an empty table too: who accepts
	// the first has said nothing of those.
	if err := a.Accept(t.Context(), shrunk); err != nil {
		t.Fatal(err)
	}
	if got := waits(); !slices.Equal(got, []snapshot.Stamp{emptied, again}) {
		t.Errorf("after the first was accepted: %v", got)
	}
	if err := a.Accept(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	if got := waits(); len(got) != 0 {
		t.Errorf("after the last was accepted: %v", got)
	}
	if err := a.Accept(t.Context(), emptied); failure.KindOf(err) != failure.Usage {
		t.Errorf("the one between was left waiting: %v", err)
	}
}
