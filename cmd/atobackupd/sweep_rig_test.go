//go:build rig

package main

import (
	"cmp"
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/internal/provetest"
)

// sweep is one job that is stopped at one system call after the other.
type sweep struct {
	name    string
	prepare string // lines of shell after the common ones
	job     string // without the program; what follows it is killed or fails
	again   string // what somebody does then; the job once more where it is empty
	status  string // of that
	after   string // lines of shell whose output proves that all is well
	want    string // a regular expression of it
}

// threeDays leaves three snapshots, the newest pushed last, and what every sweep
// begins with.
const threeDays = `a backup --chroma; a sync; ` +
	`for day in 2 3; do sqlite3 store/data/db/atocore.db "insert into memories values ($day, 'day')"; ` +
	`a backup; done; a sync; `

var sweeps = []sweep{
	{name: "first take", prepare: nothing, job: "backup --chroma"},
	{name: "first push", prepare: nothing + `; a backup --chroma`, job: "sync"},
	{name: "take", job: "backup --chroma"},
	{name: "pin", job: "pin $(ls backups/snapshots | head -1)",
		after: `"$A" --config config.toml list --json | grep -c '"pinned": true'`, want: "^1\n$"},
	{name: "prune", prepare: oneDay + `a prune --dry-run`, job: "prune --confirm",
		after: `ls backups/snapshots | wc -l`, want: "^2\n$"},
	{name: "push", prepare: `sqlite3 store/data/db/atocore.db "insert into memories values (4, 'day')"; ` +
		`a backup --chroma`, job: "sync"},
	{name: "prune of the vault", prepare: `S=$(ls backups/snapshots | sed -n 2p); a vault forget $S --confirm; ` +
		`a backup; a sync; ` + oneDay + `a vault prune --dry-run`, job: "vault prune --now --confirm",
		after: `ls vault/snapshots/*.sig | wc -l`, want: "^2\n$"},
	{name: "findings", prepare: `F=backups/snapshots/$(ls backups/snapshots | head -1)/config/project-registry.json; ` +
		`rm $F; echo X >$F`, job: "scrub --all", status: "status 3",
		after: `a list | grep -c INVALID`, want: "^1\n$"},
	{name: "repair", prepare: `F=backups/snapshots/$(ls backups/snapshots | head -1)/config/project-registry.json; ` +
		`rm $F; echo X >$F; a scrub --all`, job: "scrub --repair --from disk --identity key.txt --confirm",
		after: `a list | grep -c INVALID`, want: "^0\n$"},
	{name: "restore, resumed", prepare: live,
		job:   "restore $(ls backups/snapshots | head -1) --chroma --confirm-service-stopped",
		again: `a restore --resume`, after: stands, want: "^(old|new)\n$"},
	{name: "restore, aborted", prepare: live, job: "restore latest --confirm-service-stopped",
		again: `a restore --abort`, after: stands, want: "^(old|new)\n$"},
	{name: "drill", job: "drill"},
	{name: "bootstrap", prepare: `mkdir -m 700 lost; mv state backups lost/; mv config.toml lost/`,
		job:   "bootstrap --dir vault --identity key.txt",
		again: `[ -e config.toml ] && F=--force; a bootstrap --dir vault --identity key.txt $F`},
}

// nothing moves away what the program has made so far.
const nothing = `mkdir -m 700 lost; mv state backups vault lost/`

// oneDay has only the newest snapshot and the newest full one kept.
const oneDay = `sed -i 's/^\[encryption\]/[retention]\ndaily = 1\nweekly = 0\nmonthly = 0\n` +
	`keep_within = "0s"\n[encryption]/' config.toml; `

// live changes the live store, so that it is told from every snapshot.
const live = `sqlite3 store/data/db/atocore.db "update memories set t='live'"; ` +
	`echo '{"projects": ["live"]}' >store/config/project-registry.json; true`

// stands says which of the two stores stands, and only where it is whole.
const stands = `find store state -name '.atobackupd-restore*' -o -name restore-journal.json; ` +
	`DB=$(sqlite3 store/data/db/atocore.db 'pragma integrity_check' ` +
	`"select count(*) from memories where t='live'" | tr '\n' ' '); ` +
	`case "$DB$(cat store/config/project-registry.json)" in 'ok 3 {"projects": ["live"]}') echo old;; ` +
	`'ok 0 {"projects": []}') echo new;; *) echo neither;; esac`

// TestSweepKilled kills each job at system calls all over it, SQLite's own among
// them: a fresh process then finds whole snapshots only, finishes or undoes what was
// under way, and takes the next one.
func TestSweepKilled(t *testing.T) { sweepAll(t, "", "-after") }

// TestSweepFailed has one system call of each job fail, and the job done again.
func TestSweepFailed(t *testing.T) {
	sweepAll(t, "-fail EIO", "-fail ENOSPC", "-fail EACCES", "-fail EDQUOT")
}

func sweepAll(t *testing.T, how ...string) {
	binary, killat := buildProgram(t), buildKillat(t)
	rounds := provetest.Rounds(t, 2)
	for _, w := range sweeps {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			w.run(t, newTrustScene(t, binary), killat, rounds, how)
		})
	}
}

// keep keeps a scene as it is now, and again lays it out once more.
const (
	keep  = `mkdir -m 700 was; for f in store backups state vault config.toml lost; do [ -e $f ] && cp -a $f was/; done`
	again = `rm -rf store backups state vault config.toml lost; cp -a was/* .; `
)

func (w sweep) run(t *testing.T, s *trustScene, killat string, rounds int, how []string) {
	prepared(t, s, threeDays+w.prepare)
	s.root(t, keep)
	total := w.calls(t, s, killat)
	met := 0
	for i := range rounds {
		n := 1 + (2*i+1)*total/(2*rounds)
		flags := fmt.Sprintf("-n %d %s", n, how[i%len(how)])
		said := s.root(t, again+w.under(killat+" "+flags)+` 2>&1`)
		if strings.Contains(flags, "-fail") || strings.Contains(said, "killat: killed") {
			met++
		}
		w.check(t, s, fmt.Sprintf("%s (of %d)", flags, total), said)
	}
	if met < rounds/2 {
		t.Errorf("only %d of %d were stopped", met, rounds)
	}
	t.Logf("%d calls, %d stopped", total, met)
	provetest.Points(t, rounds)
}

// TestSweepShortWrites has the kernel write files as far as a limit and no further: the
// write that meets it is a short one, each later one fails. Then the job is done again.
func TestSweepShortWrites(t *testing.T) {
	binary := buildProgram(t)
	rounds := provetest.Rounds(t, 2)
	for _, w := range sweeps {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			s := newTrustScene(t, binary)
			prepared(t, s, threeDays+w.prepare)
			s.root(t, keep)
			met := 0
			for i := range rounds {
				limit := int(64 * math.Pow(8192, (float64(i)+0.5)/float64(rounds))) // to 512 KiB
				under := fmt.Sprintf("prlimit --fsize=%d", limit)
				said := s.root(t, again+w.under(under)+` 2>&1; echo "status $?"`)
				if lastLine(said) != w.ends() || strings.Contains(said, "level=") {
					met++
				}
				w.check(t, s, under, said)
			}
			if met == 0 {
				t.Error("no limit was met")
			}
			t.Logf("%d of %d met it", met, rounds)
			provetest.Points(t, rounds)
		})
	}
}

// prepared runs lines of shell that must do what they say; findings are no failure.
func prepared(t *testing.T, s *trustScene, script string) {
	t.Helper()
	out := s.root(t, `umask 022; `+script)
	if regexp.MustCompile(`(?m)^status [^03]`).MatchString(out) {
		t.Fatalf("%s: %s", script, out)
	}
}

// under returns the line of shell that runs the job under another program.
func (w sweep) under(program string) string { return program + ` "$A" --config config.toml ` + w.job }

// calls returns how many calls of the job can be met.
func (w sweep) calls(t *testing.T, s *trustScene, killat string) (total int) {
	t.Helper()
	out := s.root(t, w.under(killat)+` 2>&1 >/dev/null`)
	if _, err := fmt.Sscanf(lastLine(out), "killat: %d calls", &total); err != nil || total < 10 {
		t.Fatalf("%s: %d calls, %v: %s", w.name, total, err, out)
	}
	return total
}

// ends returns the status with which the job ends.
func (w sweep) ends() string { return cmp.Or(w.status, "status 0") }

// check looks at what a job left that was stopped, as a fresh process finds it.
func (w sweep) check(t *testing.T, s *trustScene, at, said string) {
	t.Helper()
	complain := func(what, out string) {
		t.Helper()
		t.Errorf("%s: %s: %s\nit said: %s", at, what, out, said)
	}
	if strings.Contains(said, "panic:") || strings.Contains(said, "goroutine ") {
		complain("it panicked", "")
	}
	half := s.root(t, `for d in $(ls -d backups/snapshots/*); do `+
		`[ -s $d/atobackupd.json ] && [ -s $d/backup-metadata.json ] || echo $d; done 2>/dev/null`)
	if strings.Contains(half, "backups/snapshots/2") {
		complain("half a snapshot is listed", half)
	}
	job := cmp.Or(w.again, "a "+w.job)
	if out := s.root(t, job); lastLine(out) != w.ends() {
		complain("afterwards "+job, out)
	}
	if out := s.root(t, w.after); !regexp.MustCompile(w.want).MatchString(out) {
		complain("in the end", out)
	}
	// A temporary that is old enough to be nobody's goes with the next take.
	s.root(t, `find state backups -name '.*.json.*' -exec touch -d '2 hours ago' {} +`)
	all := `a backup; a sync; a vault verify`
	if w.status == "" && !strings.Contains(said, "--allow-invalid") { // else it said that one is not
		all += `; a validate --all`
	}
	out := s.root(t, all+` 2>&1`)
	if strings.Count(out, "status 0") != strings.Count(all, ";")+1 {
		complain("the next ones", out)
	}
	left := s.root(t, `find backups/staging -mindepth 1; find store state backups -name '.atobackupd-restore*' `+
		`-o -name restore-journal.json -o -name '.*.json.*'`)
	if left != "" {
		complain("left over", left)
	}
}
