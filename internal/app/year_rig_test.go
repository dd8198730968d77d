//go:build rig

package app

import (
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/provetest"
	"github.com/atocore/atobackupd/offsite/sftp/sshdtest"
	"github.com/atocore/atobackupd/snapshot"
)

// disksEnv says where the two disks of the year are mounted.
const disksEnv = "ATOBACKUPD_YEAR_DISKS"

// TestYear lives through a year of an installation with a database, a registry and a
// Chroma directory, and a vault on a real sshd: see year. It runs in a binary of its
// own, whose clock it sets, on two small disks.
func TestYear(t *testing.T) {
	if disks, inside := os.LookupEnv(disksEnv); inside {
		liveThrough(t, disks, provetest.Rounds(t, 10))
		return
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "year.test")
	if out, err := exec.Command("go", "test", "-c", "-tags=rig", "-overlay="+provetest.ClockOverlay(t), "-o",
		program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	rig := filepath.Join(os.Getenv("ATOBACKUPD_SHARED"), "rig")
	for _, name := range []string{"here", "there"} {
		disk := filepath.Join(dir, name)
		up := exec.Command(filepath.Join(rig, "fs-up.sh"), "tmpfs", "128M", disk)
		if out, err := up.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		t.Cleanup(func() {
			if out, err := exec.Command(filepath.Join(rig, "fs-down.sh"), disk).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	run := exec.Command(program, "-test.run=^TestYear$", "-test.v", "-test.timeout=50m")
	run.Env = append(os.Environ(), disksEnv+"="+dir, "TMPDIR="+filepath.Join(dir, "here"))
	run.Stdout, run.Stderr = t.Output(), t.Output()
	if err := run.Run(); err != nil {
		t.Errorf("the year: %v", err)
	}
}

// year is an installation that lives through one, with what happened to it and what
// was told of that.
type year struct {
	*shipped
	server *sshdtest.Server
	disks  string
	random *rand.Rand
	log    io.Writer
	taken  map[snapshot.Stamp]yearSnapshot
	lost   map[snapshot.Stamp]bool // there: a byte was flipped, and nothing here could mend it
	there  []snapshot.Stamp        // yesterday
	counts map[string]int          // of what happened and of what was told
	usual  time.Duration           // that a push takes
	at     string                  // the day and what is being done
}

// yearSnapshot is what a snapshot was when it was taken.
type yearSnapshot struct {
	full bool
	sum  string
}

const (
	yearDaily, yearWeekly             = 7, 4
	yearMonthlyHere, yearMonthlyThere = 6, 12
)

// newYear lays out the installation on one disk and the second machine on the other.
func newYear(t *testing.T, disks string) *year {
	keep := fmt.Sprintf("daily = %d\nweekly = %d\nkeep_within = \"0s\"\nmonthly = ", yearDaily, yearWeekly)
	h := &shipped{house: newHouse(t, fmt.Sprintf("[offsite.retention]\n%s%d\n[retention]\n%s%d\n",
		keep, yearMonthlyThere, keep, yearMonthlyHere))}
	log, err := os.Create(filepath.Join(disks, "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	y := &year{
		shipped: h, disks: disks, random: rand.New(rand.NewPCG(365, 8)), log: log, usual: time.Second,
		taken: map[snapshot.Stamp]yearSnapshot{}, lost: map[snapshot.Stamp]bool{}, counts: map[string]int{},
	}
	h.key = h.path("key.txt")
	recipient, err := crypt.WriteIdentity(h.key)
	y.must(err)
	h.rotate(recipient)
	y.server = sshdtest.Start(t, sshdtest.Options{Root: filepath.Join(disks, "there")})
	y.must(os.Mkdir(y.vault(""), 0o700))
	text, err := os.ReadFile(h.path("config.toml"))
	y.must(err)
	h.write("config.toml", strings.NewReplacer(
		"[backup]", fmt.Sprintf("registry_path = %q\nchroma_path = %q\n[backup]", h.path("data/registry.json"),
			h.path("data/whole")),
		"type = \"dir\"\n", fmt.Sprintf("hosts = [%q]\nport = %d\nuser = %q\nidentity_file = %q\nknown_hosts = %q\n",
			y.server.Host, y.server.Port, y.server.User, y.server.IdentityFile, y.server.KnownHosts),
		fmt.Sprintf("path = %q", h.path("vault")), fmt.Sprintf("path = %q", y.vault("")),
	).Replace(string(text)))
	y.run("tar", "-xzf", "../../snapshot/chroma/testdata/whole.tar.gz", "-C", h.path("data"))
	y.must(y.sql("PRAGMA journal_mode=WAL; WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i+1 FROM n " +
		"WHERE i<1500) INSERT INTO t SELECT hex(randomblob(400)) FROM n"))
	return y
}

// liveThrough lives through so many days, and then looks at everything that is left.
func liveThrough(t *testing.T, disks string, days int) {
	y := newYear(t, disks)
	first := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, 2).Add(6 * time.Hour)
	provetest.SetClock(t, first)
	a := y.start()
	var early, late footprint
	for day := range days {
		y.day(a, day, first.AddDate(0, 0, day))
		if t.Failed() {
			y.showLog()
			break // what follows is of the same
		}
		if day%7 == 6 {
			y.week(a, day)
		}
		if day%91 == 90 || day == days-1 {
			y.drill(a)
		}
		if print := y.footprint(); day < days/2 {
			early = early.most(print)
		} else {
			late = late.most(print)
		}
		if day%30 == 29 {
			y.must(a.Close())
			a = y.start()
			y.counts["restarts"]++
		}
	}
	y.wantAll(a)
	y.must(a.Close())
	y.counts[falselyTold] += 0 // it is said that there were none
	provetest.Say(t, "The most in the first half of the year: %+v; in the second: %+v.", early, late)
	if late.files > early.files+2 || late.goroutines > early.goroutines+2 ||
		late.anonymous > early.anonymous*5/4+4096 || late.vault > early.vault*2 && late.vault > 8<<20 {
		t.Error("that is not flat")
	}
	for _, what := range slices.Sorted(maps.Keys(y.counts)) {
		provetest.Say(t, "%s: %d", what, y.counts[what])
	}
	provetest.Points(t, days)
}

// start opens the installation as the daemon does.
func (y *year) start() *App {
	cfg, err := config.Load(y.path("config.toml"))
	y.must(err)
	a, err := Open(y.t.Context(), cfg, Options{Version: "test", Host: "dalidou",
		Log: slog.New(slog.NewTextHandler(y.log, nil))})
	y.must(err)
	return a
}

// footprint is what this process and the vault take.
type footprint struct{ files, goroutines, anonymous, vault int }

func (f footprint) most(g footprint) footprint {
	return footprint{max(f.files, g.files), max(f.goroutines, g.goroutines), max(f.anonymous, g.anonymous),
		max(f.vault, g.vault)}
}

func (y *year) footprint() (f footprint) {
	debug.FreeOSMemory()
	list, err := os.ReadDir("/proc/self/fd")
	y.must(err)
	f.files, f.goroutines = len(list), runtime.NumGoroutine()
	status, err := os.ReadFile("/proc/self/status")
	y.must(err)
	_, rest, _ := strings.Cut(string(status), "RssAnon:")
	_, err = fmt.Sscan(rest, &f.anonymous)
	y.must(err)
	for _, info := range y.files(y.vault("")) {
		f.vault += int(info.Size())
	}
	return f
}

// sum digests a snapshot, file by file.
func (y *year) sum(dir string) string {
	y.t.Helper()
	sum := sha256.New()
	files := y.files(dir)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		data, err := os.ReadFile(name)
		y.must(err)
		fmt.Fprintf(sum, "%s %x\n", strings.TrimPrefix(name, dir), sha256.Sum256(data))
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}

// files are the regular files below a directory.
func (y *year) files(dir string) map[string]fs.FileInfo {
	y.t.Helper()
	found := map[string]fs.FileInfo{}
	y.must(filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		found[path], err = e.Info()
		return err
	}))
	return found
}

func (y *year) vault(name string) string     { return filepath.Join(y.disks, "there/vault", name) }
func (y *year) here(s snapshot.Stamp) string { return y.path("backups/snapshots/" + string(s)) }

// sql is what the application writes.
func (y *year) sql(text string) error {
	db, err := sql.Open("sqlite", y.path("data/a.db")+"?_pragma=busy_timeout(60000)")
	if err != nil {
		return err
	}
	_, err = db.Exec(text)
	return errors.Join(err, db.Close())
}

func (y *year) must(err error) {
	y.t.Helper()
	if err != nil {
		y.showLog()
		y.t.Fatalf("%s: %v", y.at, err)
	}
}

func (y *year) run(name string, args ...string) {
	y.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		y.t.Fatalf("%s: %s %q: %v: %s", y.at, name, args, err, out)
	}
}

// showLog logs the end of what the program said.
func (y *year) showLog() {
	y.t.Helper()
	text, err := os.ReadFile(filepath.Join(y.disks, "log"))
	y.t.Logf("the log ends: %s %v", text[max(0, len(text)-4000):], err)
}
