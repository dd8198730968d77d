//go:build rig

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
	"github.com/atocore/atobackupd/internal/provetest"
	"github.com/atocore/atobackupd/offsite/sftp/sshdtest"
)

// firstVersion is the commit of version 0.1.0.
const firstVersion = "09bd4c648b1604df2657497392aaa368cd5d2efd"

// buildFirstVersion builds version 0.1.0 out of the repository's history, which it
// therefore needs whole.
func buildFirstVersion(t *testing.T) (binary string) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "atobackupd-0.1.0-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	binary = filepath.Join(dir, "atobackupd")
	build := exec.Command("bash", "-c", `set -euo pipefail; git archive "$1:./" | tar -x -C "$2"; cd "$2"
		CGO_ENABLED=0 go build -o "$3" ./cmd/atobackupd`, "build", firstVersion, t.TempDir(), binary)
	build.Dir = absolute(t, "../..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build version 0.1.0, out of a clone with its whole history: %v: %s", err, out)
	}
	return binary
}

// upgraded is an installation that two versions work on.
type upgraded struct {
	*trustScene
	t      *testing.T
	points *int // what was asked of them
}

// newUpgraded makes one with a store.
func newUpgraded(t *testing.T, first, present string) upgraded {
	t.Helper()
	t.Setenv("FIRST", first)
	u := upgraded{newTrustScene(t, present), t, new(int)}
	t.Cleanup(func() { provetest.Points(t, *u.points) })
	u.ok(`sqlite3 store/data/db/atocore.db "with recursive n(i) as (select 2 union all select i+1 from n where ` +
		`i<5000) insert into memories select i, hex(randomblob(40)) from n"`)
	return u
}

// run is shell in which `first` is version 0.1.0, and `a` the present one; each
// says its exit status.
func (u upgraded) run(script string) string {
	u.t.Helper()
	return u.root(u.t, `first() { "$FIRST" --config config.toml "$@"; echo "status $?"; }; `+script)
}

// ok is run where every status must be 0.
func (u upgraded) ok(script string) string {
	u.t.Helper()
	out := u.run(script)
	*u.points++
	if regexp.MustCompile(`status [1-9]`).MatchString(out) {
		u.t.Fatalf("%s:\n%s", script, out)
	}
	return out
}

func (u upgraded) want(out string, forms ...string) {
	u.t.Helper()
	for _, form := range forms {
		*u.points++
		if !regexp.MustCompile(form).MatchString(out) {
			u.t.Errorf("it does not say %s:\n%s", form, out)
		}
	}
}

// firstDays is what version 0.1.0 did: two snapshots, of which the first is full and
// pinned, a vault, a drill.
const firstDays = `first backup --chroma; first pin $(ls backups/snapshots); sleep 1; ` +
	`sqlite3 store/data/db/atocore.db "update memories set t='later' where id%97=0"; first backup; first sync; ` +
	`first drill; `

// TestUpgrade lets version 0.1.0 work, and this one go on where it stopped. Only make
// prove runs it, for it needs the history of the repository, which a checkout may lack.
func TestUpgrade(t *testing.T) {
	first, present := buildFirstVersion(t), buildProgram(t)
	t.Run("goes on", func(t *testing.T) { goesOn(newUpgraded(t, first, present)) })
	t.Run("what was found damaged stays so", func(t *testing.T) { staysDamaged(newUpgraded(t, first, present)) })
	t.Run("a standing restore", func(t *testing.T) { endsRestores(newUpgraded(t, first, present)) })
	t.Run("an append-only vault", func(t *testing.T) { goesOnAppending(newUpgraded(t, first, present)) })
}

func goesOn(u upgraded) {
	u.ok(firstDays)
	packs := fsxtest.State(u.t, filepath.Join(u.dir, "vault/packs"))
	stamps := strings.Fields(u.ok(`ls backups/snapshots`))

	// Readers first: nothing of what was known is forgotten before anything is written.
	u.want(u.ok(`a list`), stamps[0]+` .* valid, pinned +disk`, stamps[1]+` .* valid +disk`)
	u.want(u.run(`a status`), `snapshot +ok +\S+ ago`, `full +ok +\S+ ago`, `drill +ok +\S+ ago`,
		`offsite:disk +ok +\S+ ago`, `2 snapshots, newest `+stamps[1]+`, 0 behind`)
	u.want(u.ok(`a history`), `backup .* `+stamps[0], `backup .* `+stamps[1], `sync:disk .* ok`, `drill .* ok`)

	// Nothing is sent again, and what changed is all that is sent.
	if out := u.ok(`a sync`); strings.Contains(out, "sent") {
		u.t.Errorf("it was sent again: %s", out)
	}
	if now := fsxtest.State(u.t, filepath.Join(u.dir, "vault/packs")); now != packs {
		u.t.Errorf("the packs were\n%s\nand are\n%s", packs, now)
	}
	u.ok(`a validate --all; a vault verify; sleep 1; ` +
		`sqlite3 store/data/db/atocore.db "update memories set t='now' where id=7"; a backup`)
	u.want(u.ok(`a sync`), `sent \S+, \S+ (B|KiB) in 1 pack`)

	// Everything comes back, by either version and by the script that 0.1.0 laid.
	for _, with := range []string{"a vault restore", "first vault restore"} {
		u.ok(`for s in $(ls backups/snapshots); do rm -rf out; ` + with + ` $s --identity key.txt --to out; ` +
			`diff -r backups/snapshots/$s/db out/db; echo status $?; done`)
	}
	u.want(u.ok(`rm -rf out; python3 -I vault/recover.py latest --identity key.txt --to out; echo status $?; `+
		`diff -r backups/snapshots/$(ls backups/snapshots | tail -1)/db out/db; echo status $?`), `every digest right`)

	// The first version, back again: it refuses the history, and harms nothing.
	before := u.ok(`sha256sum state/history.db`)
	u.want(u.ok(`sleep 1; first backup; first list`), `written by a newer atobackupd \(schema 5, this one knows 2\)`)
	if after := u.ok(`sha256sum state/history.db`); after != before {
		u.t.Error("version 0.1.0 wrote into the newer history")
	}
	u.ok(`a list; a validate --all; a sync; a vault verify; a prune; a drill`)
	u.want(u.ok(`python3 -I vault/recover.py --help; a history`), stamps[0])
}

func staysDamaged(u upgraded) {
	u.ok(firstDays)
	u.want(u.run(`s=$(ls backups/snapshots | head -1); for f in backups/snapshots/$s/chroma/*/data_level0.bin; do `+
		`chmod u+w $f; printf X | dd of=$f bs=1 seek=1000 conv=notrunc status=none; done; first validate $s`),
		"status 3")
	u.want(u.ok(`a list`), `INVALID, pinned`)
	u.want(u.run(`a status`), `damaged or missing: \S+ \(checksum_mismatch`, `status 2`)
	u.want(u.run(`a sync; a list; a status`), `INVALID, pinned`, `damaged or missing`)
}

// endsRestores has the present version finish, or take back, a restore of version
// 0.1.0 that was killed.
func endsRestores(u upgraded) {
	u.t.Setenv("KILLAT", buildKillat(u.t))
	u.ok(firstDays + `sqlite3 store/data/db/atocore.db "update memories set t='live'"; ` +
		`echo '{"projects": ["live"]}' >store/config/project-registry.json; ` +
		`mkdir was; cp -a store backups state was/`)
	const restore = `"$FIRST" --config config.toml restore $(ls backups/snapshots | head -1) ` +
		`--confirm-service-stopped --chroma`
	const again = `rm -rf store backups state; cp -a was/* .; `
	var total, stood, finished, undone int
	if _, err := fmt.Sscanf(lastLine(u.run(again+`"$KILLAT" `+restore+` 2>&1 >/dev/null`)), "killat: %d calls",
		&total); err != nil || total < 60 {
		u.t.Fatalf("%d calls, %v", total, err)
	}
	for n := total % 7; n <= total; n += max(1, total/provetest.Rounds(u.t, 7)) {
		end := "--resume"
		if n%2 == 0 {
			end = "--abort"
		}
		*u.points++
		u.run(again + fmt.Sprintf(`"$KILLAT" -n %d `, max(1, n)) + restore + ` >/dev/null 2>&1`)
		if u.succeeds(u.t, `test -e backups/restore-journal.json`) {
			stood++
			u.want(u.run(`a status`), `restore`)
		}
		out := u.run(`a restore ` + end + ` 2>&1`)
		is := u.run(`find store backups state -name '.atobackupd-restore*' -o -name 'restore-journal.json'; ` +
			`sqlite3 store/data/db/atocore.db 'pragma integrity_check' "select count(*) from memories where ` +
			`t='live'"; cat store/config/project-registry.json`)
		switch is {
		case "ok\n0\n{\"projects\": []}\n":
			finished++
		case "ok\n5000\n{\"projects\": [\"live\"]}\n":
			undone++
		default:
			u.t.Errorf("killed at call %d of %d, then %s:\n%s%s", n, total, end, is, out)
		}
		if !strings.Contains(out, "status 0") {
			u.t.Errorf("killed at call %d of %d, then %s: %s", n, total, end, out)
		}
		u.ok(`a backup --chroma`)
	}
	u.t.Logf("%d calls; the journal stood %d times; %d new, %d old", total, stood, finished, undone)
	if stood < 2 || finished < 1 || undone < 2 {
		u.t.Error("hardly anything was tested")
	}
}

func goesOnAppending(u upgraded) {
	root := filepath.Join(u.dir, "laptop")
	must(u.t, os.Mkdir(root, 0o755))
	server := sshdtest.Start(u.t, sshdtest.Options{User: "backup", AppendOnly: true, Root: root})
	must(u.t, os.Mkdir(filepath.Join(root, "vault"), 0o755))
	server.MakeVault(filepath.Join(root, "vault"))
	u.t.Setenv("VAULT", filepath.Join(root, "vault"))
	config := output(u.t, u.dir, "cat", "config.toml")
	config = strings.Replace(config, `type = "dir"`, fmt.Sprintf("hosts = [%q]\nport = %d\nuser = %q\n"+
		"identity_file = %q\nknown_hosts = %q\nappend_only = true", server.Host, server.Port, server.User,
		server.IdentityFile, server.KnownHosts), 1)
	config = strings.Replace(config, filepath.Join(u.dir, "vault"), filepath.Join(root, "vault"), 1)
	must(u.t, os.WriteFile(filepath.Join(u.dir, "config.toml"), []byte(config), 0o600))

	u.ok(firstDays)
	packs := fsxtest.State(u.t, filepath.Join(root, "vault/packs"))
	out := u.run(`a sync`)
	if strings.Contains(out, "sent 2") || fsxtest.State(u.t, filepath.Join(root, "vault/packs")) != packs {
		u.t.Errorf("it was sent again: %s", out)
	}
	// The laptop upgrades too: what the new version wants to say has no place yet.
	u.ok(`a vault init --dir $VAULT; chown -R backup: $VAULT`)
	u.want(u.ok(`sleep 1; sqlite3 store/data/db/atocore.db "update memories set t='now' where id=7"; a backup; `+
		`a sync; a vault verify --dir $VAULT; a vault list`), `sent \S+, \S+ (B|KiB) in 1 pack`)
	u.ok(`rm -rf out; a vault restore latest --identity key.txt --to out; ` +
		`diff -r backups/snapshots/$(ls backups/snapshots | tail -1)/db out/db; echo status $?`)
	u.ok(`ls $VAULT/policy/*.sig $VAULT/host/*.sig; echo status $?`)
}

// buildKillat builds the rig's program that kills or fails another at a system call.
func buildKillat(t *testing.T) string {
	t.Helper()
	shared := os.Getenv("ATOBACKUPD_SHARED")
	if shared == "" {
		shared = "../../../shared"
	}
	path := filepath.Join(t.TempDir(), "killat")
	build := exec.Command("go", "build", "-o", path, ".")
	build.Dir = absolute(t, filepath.Join(shared, "rig/killat"))
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	return path
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
