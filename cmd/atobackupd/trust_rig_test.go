//go:build rig

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
	"github.com/atocore/atobackupd/internal/provetest"
)

// attempt is something that one of the positions of docs/threat-model.md does to
// the built program. Everything is a line of shell: in $D lie the live store
// (store/, the application's), the victim (root's), the configuration and what the
// program writes; $A is the program, and `a WORDS` runs it and prints its status.
type attempt struct {
	position string // A the application, B a thief, C the vault, D another user, E a browser, S the service's user
	name     string
	prepare  string // by root, before anybody attacks
	attack   string // by uid 1000
	defend   string // by root: what an operator or the daemon does then
	want     string // an expression that what was printed matches
	never    string // by root: succeeds only when the attack did
	rss      int64  // MiB that no command takes more of; 0: not asked
	within   time.Duration
}

// owner is the application's user, who attacks.
const owner = 1000

var attempts = []attempt{
	{
		position: "A", name: "the live Chroma directory is a link, restore",
		prepare: "a backup --chroma",
		attack:  "mv store/data/chroma store/data/.c; ln -s $VICTIM store/data/chroma",
		defend:  "a restore latest --dry-run; a restore latest --confirm-service-stopped",
		want:    `(?s)status 4.*status 4`,
		never:   "test -e $VICTIM/chroma.sqlite3",
	},
	{
		position: "A", name: "the live Chroma directory is a link, take",
		attack: "mv store/data/chroma store/data/.c; ln -s $VICTIM store/data/chroma",
		defend: "a backup --chroma",
		want:   `status [14]`,
		never:  "grep -rq SECRET backups",
	},
	{
		position: "A", name: "the registry is a link, take",
		attack: "rm store/config/project-registry.json; ln -s $VICTIM/secret.json store/config/project-registry.json",
		defend: "a backup",
		want:   `status [14]`,
		never:  "grep -rq SECRET backups",
	},
	{
		position: "A", name: "the directory of the database is a link, restore",
		prepare: "a backup",
		attack:  "mv store/data/db store/data/.d; ln -s $VICTIM store/data/db",
		defend:  "a restore latest --confirm-service-stopped",
		want:    `status 4`,
		never:   "test -e $VICTIM/atocore.db",
	},
	{
		position: "A", name: "the registry is a hard link with another name, written in place",
		prepare: "a backup; install -o 1000 -g 1000 -m 644 /dev/null other; echo theirs >other",
		attack:  "rm store/config/project-registry.json; ln other store/config/project-registry.json",
		defend:  "a restore latest --confirm-service-stopped",
		want:    `status 0`,
		never:   "! grep -q theirs other",
	},
	{
		position: "A", name: "backup.dir is the application's, with a forged journal beside the backups",
		prepare: "a backup; chown -R 1000:1000 backups; chmod 755 backups",
		attack: `printf '{"schema":1,"phase":"aborted","stamp":"20260407T060000Z","workspaces":["%s"]}' $VICTIM ` +
			`>backups/restore-journal.json`,
		defend: "a status; a backup; a restore --abort; a restore --resume",
		want:   `(?s)status 2.*status 4.*status 4.*status 4`,
	},
	{
		position: "A", name: "staging is a link",
		prepare: "a backup; chown -R 1000:1000 backups; chmod 755 backups",
		attack:  "rm -rf backups/staging; ln -s $VICTIM backups/staging",
		defend:  "a backup; a prune; a backup --trust-backup-dir",
		want:    `(?s)status 4.*status 4.*status [14]`,
	},
	{
		position: "A", name: "the directory above the backups is the application's, and they are exchanged",
		prepare: "mkdir above; a --config above.toml backup; chown 1000 above",
		attack:  "mv above/backups above/b2; mkdir -p above/backups/snapshots; ln -s $VICTIM above/backups/staging",
		defend:  "a --config above.toml config check; a --config above.toml backup",
		want:    `(?s)status 2.*status 4`,
	},
	{
		position: "A", name: "a forged snapshot that would be the newest, with a setuid program of root's",
		prepare: open3770 + "a --config group.toml backup --chroma",
		attack:  forgedSnapshot,
		defend: "a --config group.toml list; a --config group.toml restore latest --dry-run; " +
			"rm -rf store/data/chroma; " +
			"install -d -o 1000 -g 1000 store/data/chroma; " +
			"a --config group.toml restore 20991231T000000Z --confirm-service-stopped --allow-invalid " +
			"--accept-other-deployment",
		want:  `would restore 2026`,
		never: "find store -perm /6000 | grep -q . || find store -uid 0 ! -path store | grep -q .",
	},
	{
		position: "A", name: "snapshots of ours are removed, renamed and changed where it may add its own",
		prepare: open3770 + "a --config group.toml backup",
		attack: "cd backups/snapshots; s=$(ls); rm -rf $s; mv $s x; mv $s/db $s/d; echo x >>$s/db/atocore.db; " +
			"chmod 777 $s; rm -f $s/atobackupd.json; mkdir $s/new; true",
		defend: "a --config group.toml validate latest",
		want:   `status 0`,
		never:  "test $(ls backups/snapshots | wc -l) != 1",
	},
	{
		position: "A", name: "the locks are held by the application",
		prepare: open3770 + "a --config group.toml backup",
		attack: "for f in backups/.lock backups/snapshots backups/snapshots/* state/*; do " +
			"(flock -n 9 && exec sleep 120 9>&9) 9<$f & done 2>/dev/null; sleep 0.3",
		defend: "a --config group.toml backup --lock-timeout 2s; a --config group.toml prune --lock-timeout 2s; " +
			"a --config group.toml validate latest",
		want: `(?s)status 0.*status 0.*status 0`,
	},
	{
		position: "A", name: "a registry of 6 GiB that takes no block",
		attack: "truncate -s 6G store/config/project-registry.json",
		defend: "a backup",
		want:   `project-registry.json.*(?s:.*)status 1`,
		rss:    300, within: 20 * time.Second,
	},
	{
		position: "A", name: "four forged manifests of 250 MiB",
		prepare: open3770 + "a --config group.toml backup",
		attack: "for h in 1 2 3 4; do d=backups/snapshots/2026010${h}T000000Z; mkdir $d; truncate -s 250M " +
			"$d/atobackupd.json $d/backup-metadata.json; done",
		defend: "a --config group.toml list; a --config group.toml status",
		want:   `status 0`,
		rss:    300, within: 60 * time.Second,
	},
	{
		position: "A", name: "an index that costs 400 MB a row",
		attack: `sqlite3 store/data/db/atocore.db "create table bomb (a); ` +
			`with recursive n(i) as (select 0 union all select i+1 from n where i < 100000) insert into bomb select ` +
			`i from n" ` +
			`"pragma writable_schema = on" "insert into sqlite_master values ('index', 'heavy', 'bomb', ` +
			`(select rootpage from sqlite_master where name = 'bomb'), ` +
			`'CREATE INDEX heavy ON bomb (substr(hex(zeroblob(400000000 + a)), 1, 1))')" 2>&1; true`,
		defend: "a backup",
		want:   `(?s:.*)status [13]`,
		rss:    1500, within: 4 * time.Minute,
	},
	{
		position: "A", name: "an index of which one call takes days, and no signal ends it",
		attack: `sqlite3 store/data/db/atocore.db 'create table h (a); insert into h values (1); create index i on h(a); ` +
			`pragma writable_schema=on' "update sqlite_master set sql = 'create index i on h(instr(hex(zeroblob(40000000)), ` +
			`hex(zeroblob(20000000)) || a))' where name = 'i'"`,
		defend: "timeout -k 2 60 $A --config config.toml backup; echo status $?; a backup",
		want:   `(?s)not evaluated here.*status 0.*status 0`,
	},
	{
		position: "A", name: "control characters in the names of a FIFO, a link and a table",
		prepare: "a backup --chroma",
		attack: `cd store/data; n=$(printf 'x\033]0;owned\007\033[2Jy\nz'); mkfifo "chroma/$n"; ` +
			`sqlite3 db/atocore.db "create table \"$n\" (t); insert into \"$n\" values (1)"`,
		defend: `a backup --chroma; rm store/data/chroma/x*; n=$(printf 'l\033[31m\r'); ` +
			`ln -s nowhere "store/data/chroma/$n"; a backup --chroma; a list; a validate --all; a restore latest ` +
			`--dry-run; ` +
			`a diff latest live; a ls latest; a history; a status`,
		want: `status`,
	},
	{
		position: "S", name: "a freeze marker with a command",
		prepare: `a backup; chown -R 998:998 state; printf '{"schema":1,"pid":1,"thaw":["touch","%s/owned"],` +
			`"command":["touch","%s/owned"],"deadline":"2020-01-01T00:00:00Z"}' $VICTIM $VICTIM >state/frozen.json; ` +
			`chown 998 state/frozen.json`,
		defend: "a backup; a status",
		want:   `status`,
	},
	{
		position: "S", name: "a restore journal in state_dir that root did not write",
		prepare: "a backup; chown -R 998:998 state",
		attack:  "true",
		defend: `printf '{"schema":1,"phase":"aborted","stamp":"20260407T060000Z","workspaces":["%s"]}' $VICTIM ` +
			`>state/restore-journal.json; chown 998 state/restore-journal.json; a restore --abort; a restore --resume`,
		want: `(?s)status 4.*status 4`,
	},
	{
		position: "B", name: "a module beside recover.py",
		prepare: "a backup; a sync; chown -R 1000 vault",
		attack:  `echo 'open("pwned", "w")' | tee vault/argparse.py vault/json.py vault/subprocess.py >/dev/null`,
		defend: "(cd vault && python3 recover.py --help >/dev/null; python3 -I recover.py --help >/dev/null; echo " +
			"status $?)",
		want:  `status 0`,
		never: "test -e vault/pwned || test -e pwned",
	},
	{
		position: "B", name: "junk that is signed by nobody stops no prune",
		prepare: "a backup; a sync; chown -R 1000 vault",
		attack: `cd vault/snapshots; for i in 1 2 3 4 5 6; do p=2026010${i}T000000Z-00000$i; ` +
			`yes '0000000000000000000000000000000000000000000000000000000000000000  packs/x' | head -n 550000 ` +
			`>$p.SHA256SUMS; echo junk >$p.SHA256SUMS.sig; done`,
		defend: "a vault list --dir vault; a vault prune --dir vault; a vault verify --dir vault",
		want:   `(?s)status 0.*status 0.*status [03]`,
		rss:    300, within: time.Minute,
	},
	{
		position: "D", name: "another user reads snapshots, state, keys, and holds the locks",
		prepare: "a backup; a sync; chmod -R g-rwx,o-rwx backups; true",
		attack: "cat backups/snapshots/*/db/atocore.db state/signing_key >/dev/null && touch read; ls state; ls " +
			"backups; " +
			"for f in backups/.lock state/history.db; do (flock -n 9 && exec sleep 60 9>&9) 9<$f & done; true",
		defend: "a backup --lock-timeout 2s",
		want:   `status 0`,
		never:  "test -e read",
	},
	{
		position: "D", name: "the program run by another user",
		attack: "$A --config config.toml status; echo status $?; $A --config config.toml backup; echo status $?; " +
			"$A --config config.toml restore latest --confirm-service-stopped; echo status $?",
		want:  `(?s)put sudo before it.*status 3.*status [124].*status [124]`,
		never: "test -e backups/snapshots/2*",
	},
	{
		position: "E", name: "a stranger's page, and whoever reaches the port",
		prepare: serve,
		attack:  browse,
		defend:  "kill $(cat daemon.pid); ls backups/snapshots | wc -l",
		want: `(?s)foreign origin 403.*null origin 403.*text/plain 415.*foreign host 403.*no restore 404.*reads 200.*` +
			`\n0\n`,
	},
	{
		position: "E", name: "local users too, where a token is asked of them",
		prepare: "printf 'require_token = true\\ntoken_file = \"%s/token\"\\n' $D >>config.toml; " +
			"head -c 32 /dev/urandom | base64 >token; chmod 600 token; " + serve,
		attack: `c() { printf '%s ' "$1"; shift; curl -s -o /dev/null -w '%{http_code}\n' "$@"; }; u=$(cat url); ` +
			`c none -X POST -H 'Content-Type: application/json' -d '{}' $u/admin/backup; ` +
			`c wrong -X POST -H 'Authorization: Bearer x' -H 'Content-Type: application/json' -d '{}' $u/admin/backup`,
		defend: `curl -s -o /dev/null -w 'right %{http_code}\n' -X POST -H "Authorization: Bearer $(cat token)" ` +
			`-H 'Content-Type: application/json' -d '{"include_chroma": false}' $(cat url)/admin/backup; kill $(cat ` +
			`daemon.pid)`,
		want: `(?s)none 401.*wrong 40[13].*right 200`,
	},
	{
		position: "E", name: "a burst of writes",
		prepare: serve,
		attack: `u=$(cat url); for i in $(seq 12); do curl -s -o /dev/null -w '%{http_code} ' -X POST ` +
			`-H 'Content-Type: application/json' -d '{"include_chroma": false}' $u/admin/backup; done; echo`,
		defend: "kill $(cat daemon.pid); a prune --lock-timeout 5s; test $(ls backups/snapshots | wc -l) -le 8; echo " +
			"status $?",
		want: `(?s)429.*status 0.*status 0`,
	},
}

// open3770 is what take-over does for an AtoCore that adds snapshots of its own.
const open3770 = "mkdir -p backups; chgrp 1000 backups; chmod 750 backups; install -d -m 3770 -g 1000 " +
	"backups/snapshots; " +
	"chmod 3770 backups/snapshots; "

// forgedSnapshot claims that root owns a setuid program in it.
const forgedSnapshot = `s=backups/snapshots/20991231T000000Z; mkdir -p $s/db $s/chroma; ` +
	`cp store/data/chroma/chroma.sqlite3 $s/chroma/; cp /bin/true $s/chroma/rootid; ` +
	`sqlite3 $s/db/atocore.db 'create table memories (t)'; ` +
	`h() { sha256sum $1 | cut -c 1-64; }; f() { printf '{"path":"%s","type":"file","size":%s,"mode":%s,` +
	`"uid":0,"gid":0,` +
	`"mtime":"2026-01-01T00:00:00Z","sha256":"%s"}' $1 $(stat -c %s $s/$1) $2 $(h $s/$1); }; ` +
	`printf '{"schema":1,"stamp":"20991231T000000Z","kind":"daily","host":"%s","pinned":true,` +
	`"artifacts":{"db":{"included":` +
	`true},"chroma":{"included":true,"consistency":"consistent"}},` +
	`"files":[{"path":"db","type":"dir","mode":493},{"path":` +
	`"chroma","type":"dir","mode":2541,"uid":0},%s,%s,%s],"validation":{"valid":true}}' $(hostname) "$(f ` +
	`db/atocore.db 420)" ` +
	`"$(f chroma/rootid 2541)" "$(f chroma/chroma.sqlite3 420)" >$s/atobackupd.json; ` +
	`echo '{"created_at":"2099-12-31T00:00:00Z","include_chroma":true,"chroma_snapshot_included":true}' ` +
	`>$s/backup-metadata.json`

// serve starts the daemon on a port of its own and waits until it answers.
const serve = `port=$((20000 + $$ % 20000)); sed -i "s/^listen = .*/listen = \"127.0.0.1:$port\"/" config.toml; ` +
	`echo http://127.0.0.1:$port >url; ("$A" --config config.toml run >daemon.log 2>&1 & echo $! >daemon.pid); ` +
	`for i in $(seq 100); do curl -sf $(cat url)/healthz >/dev/null && break; sleep 0.1; done; chmod 644 url`

const browse = `c() { printf '%s ' "$1"; shift; curl -s -o /dev/null -w '%{http_code}\n' "$@"; }; u=$(cat url); ` +
	`j='Content-Type: application/json'; p="-X POST -d {}"; ` +
	`c 'foreign origin' $p -H "$j" -H 'Origin: http://evil.example' $u/admin/backup; ` +
	`c 'null origin' $p -H "$j" -H 'Origin: null' $u/admin/backup; ` +
	`c 'text/plain' $p -H 'Content-Type: text/plain' $u/admin/backup; ` +
	`c 'foreign host' $p -H "$j" -H 'Host: evil.example' $u/admin/backup; ` +
	`c 'no restore' $p -H "$j" $u/admin/restore; c reads $u/api/status`

// TestRigTrust lets each position try what docs/threat-model.md says that it
// cannot do. ATOBACKUPD_TRUST_BINARY names another build to try them on.
func TestRigTrust(t *testing.T) {
	binary := buildProgram(t)
	for _, c := range attempts {
		t.Run(c.position+" "+c.name, func(t *testing.T) {
			s := newTrustScene(t, binary)
			var said strings.Builder
			said.WriteString(s.root(t, c.prepare))
			before := fsxtest.State(t, s.victim)
			said.Reset()
			said.WriteString(s.shell(t, owner, c.attack))
			start := time.Now()
			said.WriteString(s.root(t, c.defend))
			took := time.Since(start)
			if after := fsxtest.State(t, s.victim); after != before {
				t.Errorf("the victim was\n%s\nand is\n%s", before, after)
			}
			if !regexp.MustCompile(c.want).MatchString(said.String()) {
				t.Errorf("it does not say %s:\n%s", c.want, &said)
			}
			if c.never != "" && s.succeeds(t, c.never) {
				t.Errorf("the attack succeeded: %s\n%s", c.never, &said)
			}
			if raw := rawControl(said.String()); raw != "" {
				t.Errorf("raw on the terminal: %q", raw)
			}
			if c.rss > 0 && s.rss>>20 > c.rss {
				t.Errorf("%d MiB of memory, more than %d", s.rss>>20, c.rss)
			}
			if c.within > 0 && took > 3*c.within { // far off, on a machine that is busy
				t.Errorf("it took %v", took)
			}
			t.Logf("%-2s %-80s %s, %d MiB, %.1fs", c.position, c.name, verdict(t), s.rss>>20, took.Seconds())
		})
	}
}

func verdict(t *testing.T) string {
	if t.Failed() {
		return "NOT STOPPED"
	}
	return "stopped"
}

// odder puts a FIFO where SQLite opens a file, and takes it away.
const odder = `while :; do for f in store/data/db/atocore.db store/data/chroma/chroma.sqlite3; do ` +
	`for s in -journal -wal -shm; do [ -e $f$s ] || { mkfifo -m 400 $f$s; rm $f$s; }; done; done 2>/dev/null; done`

// TestRigTrustRaces runs each job again and again beside a process of the
// application's that exchanges what it can: nothing of root's is touched, and the
// program ends each time. Each race is run on the file system of /tmp and on an
// overlay, where a directory of a lower layer is moved file by file.
func TestRigTrustRaces(t *testing.T) {
	binary := buildProgram(t)
	rounds := provetest.Rounds(t, 6)
	for _, c := range []struct{ name, prepare, attack, job string }{
		{
			"restores beside an exchanged workspace", "a backup --chroma",
			`cd store/data; while :; do for d in .atobackupd-restore-* chroma/.atobackupd-restore-* ` +
				`db/.atobackupd-restore-*; do [ -d "$d" ] && mv "$d" $d.mine && mkdir "$d" && ` +
				`ln -s $VICTIM "$d/new"; ` +
				`done 2>/dev/null; done`,
			"a restore latest --confirm-service-stopped --no-pre-snapshot --force; a restore --abort --force " +
				">/dev/null; " +
				"rm -rf store/data/.a* store/data/*/.a*",
		},
		{
			"restores beside a live directory that is now a link", "a backup --chroma",
			`cd store/data; while :; do mv chroma c && ln -s $VICTIM chroma; rm chroma && ` +
				`mv c chroma; done 2>/dev/null`,
			"a restore latest --confirm-service-stopped --no-pre-snapshot --force; a restore --abort --force " +
				">/dev/null; true",
		},
		{
			"takes beside a live directory that is now a link", "true",
			`cd store; while :; do mv data/chroma data/c && ln -s $VICTIM data/chroma; rm data/chroma && mv data/c ` +
				`data/chroma; ` +
				`mv config c && ln -s $VICTIM config; rm config && mv c config; done 2>/dev/null`,
			"a backup --chroma",
		},
		{
			"takes beside a FIFO that comes and goes where SQLite opens a file", "true",
			odder,
			"timeout -k 2 90 $A --config config.toml backup --chroma; echo status $?",
		},
		{
			"restores beside a FIFO that comes and goes where SQLite opens a file", "a backup --chroma",
			odder,
			"timeout -k 2 90 $A --config config.toml restore latest --confirm-service-stopped; s=$?; echo status $s; " +
				"test $s -lt 100 || exit; a restore --abort --force >/dev/null; true",
		},
		{
			"prunes beside snapshots that come and go", open3770 + "a --config group.toml backup",
			`cd backups/snapshots; while :; do mkdir -p 20260101T000000Z/db && echo '{}' ` +
				`>20260101T000000Z/backup-metadata.json ` +
				`&& ln -s $VICTIM 20260101T000000Z/chroma; mv 20260101T000000Z 20260102T000000Z; ln -s $VICTIM ` +
				`20260101T000000Z; ` +
				`rm 20260101T000000Z; rm -rf 20260102T000000Z; done 2>/dev/null`,
			"a --config group.toml prune --confirm",
		},
		{
			"drills and repairs beside snapshots that come and go", open3770 + "a --config group.toml backup",
			`cd backups/snapshots; while :; do mkdir -p 20270101T000000Z/db && echo '{}' ` +
				`>20270101T000000Z/backup-metadata.json ` +
				`&& ln -s $VICTIM 20270101T000000Z/chroma; mv 20270101T000000Z x 2>/dev/null; ln -s $VICTIM ` +
				`20270101T000000Z; ` +
				`rm 20270101T000000Z; rm -rf x; done 2>/dev/null`,
			"a --config group.toml drill; a --config group.toml scrub --repair --confirm; " +
				"a --config group.toml validate --all",
		},
	} {
		for _, place := range []struct {
			name string
			lay  func(*trustScene, *testing.T)
		}{
			{"plain", func(*trustScene, *testing.T) {}},
			{"overlay", (*trustScene).overlay},
		} {
			t.Run(c.name+"/"+place.name, func(t *testing.T) {
				s := newTrustScene(t, binary)
				s.root(t, c.prepare)
				place.lay(s, t)
				statuses := s.race(t, rounds, c.attack, c.job)
				t.Logf("%s, %s: %v", c.name, place.name, statuses)
				provetest.Points(t, rounds)
			})
		}
	}
}

// race does a job of root's again and again while the application's user runs an
// attack in a loop, and counts the statuses that the program ended with.
func (s *trustScene) race(t *testing.T, rounds int, attack, job string) map[string]int {
	t.Helper()
	before := fsxtest.State(t, s.victim)
	stop := s.loop(t, owner, attack)
	statuses := map[string]int{}
	for range rounds {
		out := s.root(t, job)
		for _, status := range regexp.MustCompile(`status \d+`).FindAllString(out, -1) {
			statuses[status]++
		}
		if statuses["status 124"]+statuses["status 137"] > 0 {
			t.Fatalf("it waits:\n%s", out)
		}
		if strings.Contains(out, "panic:") || strings.Contains(out, "SECRET") {
			t.Fatalf("%s", out)
		}
		if after := fsxtest.State(t, s.victim); after != before {
			t.Fatalf("the victim was\n%s\nand is\n%s\n%s", before, after, out)
		}
	}
	stop()
	if s.succeeds(t, "grep -rqs SECRET backups store") {
		t.Error("what the victim holds was copied")
	}
	if s.succeeds(t, "find store -perm /6000 | grep -q .") {
		t.Error("a setuid file was made")
	}
	return statuses
}

// overlay makes all that the scene holds so far the lower layer of an overlay, as
// it is in a container: no directory of it can be renamed, and what is written is
// copied up.
func (s *trustScene) overlay(t *testing.T) {
	t.Helper()
	layers := s.dir + ".layers"
	must(t, os.MkdirAll(layers+"/work", 0o700))
	must(t, os.Mkdir(layers+"/upper", 0o755))
	t.Cleanup(func() { _ = os.RemoveAll(layers) })
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", s.dir, layers, layers)
	must(t, syscall.Mount("overlay", s.dir, "overlay", 0, options))
	t.Cleanup(func() { _ = syscall.Unmount(s.dir, syscall.MNT_DETACH) })
}

// buildProgram builds what is shipped, where everybody may run it.
func buildProgram(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "atobackupd-trust-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	path := filepath.Join(dir, "atobackupd")
	if other := os.Getenv("ATOBACKUPD_TRUST_BINARY"); other != "" {
		output(t, dir, "cp", other, path)
	} else {
		build := exec.Command("go", "build", "-o", path, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("go build: %v: %s", err, out)
		}
	}
	must(t, os.Chmod(path, 0o755))
	return path
}

// trustScene is one installation, its victim and its attacker.
type trustScene struct {
	dir, victim, binary string
	rss                 int64
}

func newTrustScene(t *testing.T, binary string) *trustScene {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "atobackupd-trust-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return newTrustSceneIn(t, binary, dir)
}

// newTrustSceneIn makes one in a directory that is there.
func newTrustSceneIn(t *testing.T, binary, dir string) *trustScene {
	t.Helper()
	must(t, os.Chmod(dir, 0o755))
	s := &trustScene{dir: dir, victim: filepath.Join(dir, "victim"), binary: binary}
	recipient, err := crypt.WriteIdentity(filepath.Join(dir, "key.txt"))
	must(t, err)
	const config = `state_dir = "%[1]s/state"
[atocore]
db_path = "%[1]s/store/data/db/atocore.db"
registry_path = "%[1]s/store/config/project-registry.json"
chroma_path = "%[1]s/store/data/chroma"
[backup]
dir = "%[2]s/backups"
min_free = "1MiB"
%[3]s[encryption]
recipients = [%[4]q]
[[offsite]]
name = "disk"
type = "dir"
path = "%[1]s/vault"
[http]
listen = ""
`
	for name, c := range map[string]struct{ above, more string }{"config": {above: dir},
		"above": {above: dir + "/above"},
		"group": {above: dir, more: "atocore_group = \"1000\"\n"}} {
		must(t, os.WriteFile(filepath.Join(dir, name+".toml"),
			fmt.Appendf(nil, config, dir, c.above, c.more, recipient), 0o600))
	}
	archive := absolute(t, "../../snapshot/chroma/testdata/whole.tar.gz")
	s.root(t, `mkdir -p store/data/db store/data/chroma store/config victim/sub; tar -xzf `+archive+
		` -C store/data/chroma --strip-components=1; echo '{"projects": []}' >store/config/project-registry.json; `+
		`sqlite3 store/data/db/atocore.db 'pragma journal_mode=wal' 'create table memories (id integer primary key, `+
		`t text)' `+
		`"insert into memories values (1, 'one')" >/dev/null; chown -R 1000:1000 store/data store/config; `+
		`echo SECRET >victim/shadow; echo '{"k": "SECRET"}' >victim/secret.json; chmod 600 victim/shadow; chmod 700 `+
		`victim`)
	return s
}

// root runs lines of shell as root, and shell as a user.
func (s *trustScene) root(t *testing.T, script string) string { return s.shell(t, 0, script) }

func (s *trustScene) shell(t *testing.T, uid int, script string) string {
	t.Helper()
	if script == "" {
		return ""
	}
	cmd := s.command(uid, script)
	out, err := cmd.CombinedOutput()
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }) // what it left running
	if _, isExit := err.(*exec.ExitError); err != nil && !isExit && !errors.Is(err, exec.ErrWaitDelay) {
		t.Fatalf("%s: %v", script, err)
	}
	if uid == 0 {
		s.rss = max(s.rss, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss<<10)
	}
	return string(out)
}

func (s *trustScene) command(uid int, script string) *exec.Cmd {
	script = `a() { case "$1" in --config) "$A" "$@";; *) "$A" --config config.toml "$@";; esac; ` +
		`echo "status $?"; }; ` +
		script
	words := []string{"sh", "-c", script}
	if uid != 0 {
		who := fmt.Sprint(uid)
		words = append([]string{"setpriv", "--reuid", who, "--regid", who, "--clear-groups"}, words...)
	}
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "D="+s.dir, "VICTIM="+s.victim, "A="+s.binary, "HOME="+s.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second // what it left running holds the pipe
	return cmd
}

// loop runs a script until stop is called, which ends all that it began.
func (s *trustScene) loop(t *testing.T, uid int, script string) (stop func()) {
	t.Helper()
	cmd := s.command(uid, script)
	must(t, cmd.Start())
	stop = func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	}
	t.Cleanup(stop)
	return stop
}

func (s *trustScene) succeeds(t *testing.T, script string) bool {
	t.Helper()
	return s.command(0, script).Run() == nil
}

// rawControl returns the first control character that would act on a terminal.
func rawControl(text string) string {
	for _, r := range text {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return string(r)
		}
	}
	return ""
}
