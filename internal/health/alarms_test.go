package health

import (
	"strings"
	"testing"
	"time"
)

// report makes one of legs: "name level" or "name level quiet"; what is not
// named is well.
func report(all []string, bad ...string) Report {
	r := Report{Level: LevelOK}
	for _, name := range all {
		l := Leg{Name: name, Level: LevelOK, Watched: true}
		for _, b := range bad {
			if word := strings.Fields(b); word[0] == name {
				l.Level, l.Message, l.Quiet = word[1], "message", len(word) > 2
			}
		}
		r.Legs = append(r.Legs, l)
	}
	return r
}

func TestAlarms(t *testing.T) {
	legs := []string{"offsite:a", "offsite:b", "offsite:c", "offsite:d"}
	a, b, c, d := legs[0]+" critical", legs[1]+" critical", legs[2]+" critical", legs[3]+" critical"
	var l Alarms
	l, changes := l.Update(report(legs, a, b, c), noon)
	if len(changes.Fresh) != 3 || len(l.Pending(noon).Bad) != 3 {
		t.Fatalf("three legs turned bad: %+v", changes)
	}
	_, body := l.Pending(noon).Message("host")
	if strings.Count(body, "CRITICAL") != 3 {
		t.Fatalf("one message tells all: %q", body)
	}
	l = l.MarkSent(l.Pending(noon), noon)
	for i := range l.Open {
		l.Open[i].ID = int64(i + 1)
	}
	l, changes = l.Update(report(legs, a, b, c), noon.Add(time.Hour))
	if len(changes.Raised)+len(changes.Resolved) != 0 || !l.Pending(noon.Add(time.Hour)).Empty() {
		t.Fatalf("nothing changed, and there is news: %+v", changes)
	}
	if n := l.Pending(noon.Add(24*time.Hour - 1)); !n.Empty() {
		t.Fatalf("a reminder before its time: %+v", n)
	}
	if n := l.Pending(noon.Add(24 * time.Hour)); len(n.Still) != 3 {
		t.Fatalf("no reminder after a day: %+v", n)
	}
	if n := l.Pending(noon.Add(-25 * time.Hour)); len(n.Still) != 3 {
		t.Fatalf("a clock that was put back silences it: %+v", n)
	}
	l, changes = l.Update(report(legs, b), noon.Add(2*time.Hour))
	n := l.Pending(noon.Add(2 * time.Hour))
	if len(changes.Resolved) != 2 || len(n.Recovered) != 2 || len(n.Bad)+len(n.Still) != 0 {
		t.Fatalf("two recovered: %+v, %+v", changes, n)
	}
	if l = l.MarkSent(n, noon.Add(2*time.Hour)); !l.Pending(noon.Add(2 * time.Hour)).Empty() {
		t.Fatal("a recovery is told twice")
	}
	// An alarm that comes and goes before anybody heard of it is no news.
	l, _ = l.Update(report(legs, b, d), noon.Add(3*time.Hour))
	l, _ = l.Update(report(legs, b), noon.Add(4*time.Hour))
	if n := l.Pending(noon.Add(4 * time.Hour)); !n.Empty() {
		t.Fatalf("news of what nobody knew: %+v", n)
	}
}

func TestAlarmsTellThatItGotWorse(t *testing.T) {
	legs := []string{LegDrill}
	l, _ := Alarms{}.Update(report(legs, "drill warning"), noon)
	l = l.MarkSent(l.Pending(noon), noon)
	l, c := l.Update(report(legs, "drill critical"), noon.Add(time.Hour))
	if n := l.Pending(noon.Add(time.Hour)); len(n.Bad) != 1 || len(c.Raised) != 1 || len(c.Fresh) != 0 {
		t.Fatalf("a warning that became critical: %+v, %+v", n, c)
	}
}

// Another copy that is damaged is news, whatever is known already; one that is well
// again, and those that a process finds when it starts, are none.
func TestAlarmsTellOfMoreDamage(t *testing.T) {
	damage := func(subjects ...string) Report {
		var f Facts
		for _, s := range subjects {
			f.Damage = append(f.Damage, Damage{Subject: s, What: "torn"})
		}
		return Judge(f, noon)
	}
	var l Alarms
	for i, step := range []struct {
		report Report
		news   bool
	}{
		{damage("a"), true}, {damage("a"), false}, {damage("a", "disk: b"), true}, {damage("disk: b", "a"), false},
		{damage("disk: b"), false}, {damage("disk: b", "a"), true}, {damage("a", "b", "c", "d", "e"), true},
		{damage("a", "b", "c", "d", "f"), true},
	} {
		l, _ = l.Update(step.report, noon.Add(time.Duration(i)*time.Minute))
		n := l.Pending(noon.Add(time.Duration(i) * time.Minute))
		if len(n.Bad) == 1 != step.news {
			t.Errorf("step %d: %+v", i, n)
		}
		l = l.MarkSent(n, noon)
	}
	l.Open[0].Parts = nil // a new process
	if l, _ = l.Update(damage("a", "g"), noon.Add(time.Hour)); len(l.Pending(noon.Add(time.Hour)).Bad) != 0 {
		t.Error("what a process finds when it starts is news")
	}
}

// What was bad for seconds was not bad for no time.
func TestLasted(t *testing.T) {
	for d, want := range map[time.Duration]string{16*time.Second + 300*time.Millisecond: "16s",
		89 * time.Second: "1m29s", 150 * time.Second: "3m0s", 26*time.Hour + 29*time.Second: "26h0m0s"} {
		if got := lasted(Alarm{Since: noon, ResolvedAt: noon.Add(d)}).String(); got != want {
			t.Errorf("%s is said as %s, not %s", d, got, want)
		}
	}
}

// RECOVERED is said only when the evidence is good.
func TestOnlyWhatIsWellHasRecovered(t *testing.T) {
	start := func() Alarms {
		l, _ := Alarms{}.Update(report([]string{LegFull}, "full critical"), noon)
		return l.MarkSent(l.Pending(noon), noon)
	}
	later := noon.Add(time.Hour)
	tell := func(r Report) (Alarms, string) {
		l, _ := start().Update(r, later)
		n := l.Pending(later)
		if n.Empty() {
			return l, ""
		}
		_, body := n.Message("host")
		return l, body
	}
	if _, body := tell(report([]string{LegFull})); !strings.Contains(body, "RECOVERED full") {
		t.Errorf("it is well: %q", body)
	}
	if l, body := tell(report([]string{LegFull}, "full warning quiet")); body != "" || len(l.Open) != 1 {
		t.Errorf("it waits for a retry: %q, %+v", body, l)
	}
	off := report([]string{LegFull})
	off.Legs[0].Watched = false
	for name, r := range map[string]Report{"it was configured away": report([]string{LegSnapshot}),
		"its limit is off": off} {
		if l, body := tell(r); strings.Contains(body, "RECOVERED") ||
			!strings.Contains(body, "NO LONGER WATCHED full") || len(l.Open) != 0 {
			t.Errorf("%s: %q, %+v", name, body, l)
		}
	}
}

// What is over has no next command.
func TestRecoveredNamesNoCommand(t *testing.T) {
	for message, want := range map[string]string{
		"no space": "no space",
		"damaged or missing: S (checksum_mismatch): atobackupd scrub --repair":     "damaged or missing: S (checksum_mismatch)",
		"it hangs: systemctl restart atobackupd, and then: atobackupd scrub":       "it hangs",
		"a journal stands: finish it with `atobackupd restore --resume`, or abort": "a journal stands",
		"atobackupd backup": "",
	} {
		if got := withoutCommand(message); got != want {
			t.Errorf("%q: %q, want %q", message, got, want)
		}
	}
}
