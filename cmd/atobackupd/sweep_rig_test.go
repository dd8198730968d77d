//go:build rig

package main

import (
	"fmt"
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
	{name: "take", job: "backup --chroma"},
	{name: "prune", prepare: `sed -i 's/^\[encryption\]/[retention]\ndaily = 1\nweekly = 0\nmonthly = 0\n` +
		`keep_within = "0s"\n[encryption]/' config.toml; a prune --dry-run`, job: "prune --confirm",
		after: `ls backups/snapshots | wc -l`, want: "^2\n$"},
	{name: "push", prepare: `sqlite3 store/data/db/atocore.db "insert into memories values (4, 'day')"; ` +
		`a backup --chroma`, job: "sync"},
	{name: "prune of the vault", prepare: `S=$(ls backups/snapshots | head -1); a vault forget $S --target disk`,
		job: "vault prune --target disk --now --confirm"},
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

func (w sweep) run(t *testing.T, s *trustScene, killat string, rounds int, how []string) {
	out := s.root(t, `umask 022; `+threeDays+w.prepare+"\n"+`mkdir -m 700 was; `+
		`for f in store backups state vault config.toml lost; do [ -e $f ] && cp -a $f was/; done; true`)
	if strings.Contains(out, "status 1") {
		t.Fatalf("%s", out)
	}
	const again = `rm -rf store backups state vault config.toml lost; cp -a was/* .; `
	stopped := fmt.Sprintf(`%s %%s "$A" --config config.toml %s`, killat, w.job)
	out = s.root(t, again+fmt.Sprintf(stopped, "")+` 2>&1 >/dev/null`)
	total := 0
	if _, err := fmt.Sscanf(lastLine(out), "killat: %d calls", &total); err != nil || total < 10 {
		t.Fatalf("%d calls, %v: %s", total, err, out)
	}
	met := 0
	for i := range rounds {
		n := 1 + (2*i+1)*total/(2*rounds)
		flags := fmt.Sprintf("-n %d %s", n, how[i%len(how)])
		said := s.root(t, again+fmt.Sprintf(stopped, flags)+` 2>&1`)
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
		`[ -f $d/atobackupd.json ] && [ -f $d/backup-metadata.json ] || echo $d; done 2>/dev/null`)
	if strings.Contains(half, "backups/snapshots/2") {
		complain("half a snapshot is listed", half)
	}
	job, status := w.again, w.status
	if job == "" {
		job = "a " + w.job
	}
	if status == "" {
		status = "status 0"
	}
	if out := s.root(t, job); !strings.HasSuffix(strings.TrimSpace(out), status) {
		complain("afterwards "+job, out)
	}
	if out := s.root(t, w.after); !regexp.MustCompile(w.want).MatchString(out) {
		complain("in the end", out)
	}
	all := `a backup; a sync; a vault verify`
	if w.status == "" {
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
