package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
)

// sound checks a copy by SQLite and by the rules of store, and returns the last
// transaction in it.
func sound(t *testing.T, path string) (last int64) {
	t.Helper()
	last, err := judge(path)
	if err != nil {
		t.Fatal(err)
	}
	return last
}

func judge(path string) (last int64, err error) {
	problems, warnings, err := Check(
		context.Background(),
		path,
		CheckOptions{RequiredTables: []string{"ledger", "state"}},
	)
	if err != nil || problems != nil || warnings != nil {
		return 0, fmt.Errorf("problems %v, warnings %v, error %w", problems, warnings, err)
	}
	db, err := OpenImmutable(path)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	var total, rows, highest, sum int64
	if err := db.QueryRow("SELECT last, total, (SELECT count(*) FROM ledger), (SELECT max(id) FROM ledger), (SELECT "+
		"sum(id) FROM ledger) FROM state").Scan(&last, &total, &rows, &highest, &sum); err != nil {
		return 0, err
	}
	if last != rows || last != highest || total != sum {
		return last, fmt.Errorf(
			"state says %d (sum %d), ledger has %d rows to %d (sum %d)",
			last,
			total,
			rows,
			highest,
			sum,
		)
	}
	return last, nil
}

func mustCopy(t *testing.T, src, dst string) Copied {
	t.Helper()
	copied, err := Copy(context.Background(), liveAt(src), dst, CopyOptions{Share: true})
	if err != nil {
		t.Fatal(err)
	}
	return copied
}

// filled starts a puppet with a database of n rows.
func filled(t *testing.T, j job, n int) *child {
	t.Helper()
	p := start(t, "puppet", j)
	p.do(t, "fill %d", n)
	return p
}

func journalMode(t *testing.T, path string) string {
	t.Helper()
	info, err := Inspect(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	return info.JournalMode
}

func TestCopyUnderWriter(t *testing.T) {
	for _, test := range []struct {
		name   string
		job    job
		copies int
		mode   string
	}{
		{"wal, 50 commits a second", job{Journal: "wal", Pause: 20 * time.Millisecond}, 10, "wal"},
		{
			"wal, fast, checkpoint every 200 pages",
			job{Journal: "wal", Pragmas: []string{"PRAGMA wal_autocheckpoint = 200"}},
			25,
			"wal",
		},
		{"rollback journal, fast", job{Journal: "delete"}, 5, "delete"},
		{"truncated journal, 50 commits a second", job{Journal: "truncate", Pause: 20 * time.Millisecond}, 5, "delete"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			test.job.Path = filepath.Join(dir, "live.db")
			filled(t, test.job, 3000).Close()
			w := start(t, "writer", test.job)
			var committed atomic.Int64
			first := make(chan struct{})
			go func() {
				for w.Scan() {
					n, _ := strconv.ParseInt(w.Text(), 10, 64)
					if committed.Swap(n) == 0 {
						close(first)
					}
				}
			}()
			<-first
			for i := range test.copies {
				dst := filepath.Join(dir, fmt.Sprintf("copy%d.db", i))
				before := committed.Load()
				copied := mustCopy(t, test.job.Path, dst)
				if last := sound(t, dst); last < before {
					t.Errorf("copy %d ends at %d, but %d was committed before it began", i, last, before)
				}
				if mode := journalMode(t, dst); mode != test.mode {
					t.Errorf("the copy's journal mode is %s", mode)
				}
				if want := test.mode == "wal"; strings.HasPrefix(copied.Method, "wal-") != want ||
					strings.Contains(copied.Method, "fallback") {
					t.Errorf("method %s", copied.Method)
				}
				if info, err := os.Stat(dst); err != nil || info.Size() != copied.Bytes {
					t.Errorf("%d bytes reported: %v %v", copied.Bytes, info, err)
				}
				if err := os.Remove(dst); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// restart makes the race of copyWAL: half of the WAL is copied, then a writer
// starts it anew and overwrites more than that half, then the rest is copied.
func restart(
	t *testing.T,
	p *child,
	commits int,
) func(context.Context, *os.File, *os.File, bool) (fsx.CopyMethod, error) {
	done := false
	return func(ctx context.Context, dst, src *os.File, share bool) (fsx.CopyMethod, error) {
		if done || !strings.HasSuffix(dst.Name(), walSuffix) {
			return fsx.CloneOrCopy(ctx, dst, src, share)
		}
		done = true
		info, err := src.Stat()
		if err != nil {
			return "", err
		}
		half := make([]byte, info.Size()/2)
		if _, err := src.ReadAt(half, 0); err != nil {
			return "", err
		}
		p.do(t, "commit %d", commits)
		rest := make([]byte, info.Size()-int64(len(half)))
		if _, err := src.ReadAt(rest, int64(len(half))); err != nil {
			return "", err
		}
		_, err = dst.Write(append(half, rest...))
		return fsx.CopyRange, err
	}
}

func TestWALRestartedDuringCopy(t *testing.T) {
	for _, trust := range []bool{true, false} {
		t.Run(fmt.Sprintf("header ignored %t", trust), func(t *testing.T) {
			dir := t.TempDir()
			j := job{
				Path:    filepath.Join(dir, "live.db"),
				Journal: "wal",
				Pragmas: []string{"PRAGMA wal_autocheckpoint = 0"},
			}
			p := filled(t, j, 300)
			p.do(t, "commit 300")
			// All of the WAL is in the database file now: the pin gets mark 0.
			if got := p.do(t, "row PRAGMA wal_checkpoint(FULL)"); !strings.HasPrefix(got, "0,") {
				t.Fatalf("checkpoint: %s", got)
			}
			before, _ := strconv.ParseInt(p.do(t, "commit 0"), 10, 64)
			dst := filepath.Join(dir, "copy.db")
			c := copier{clone: restart(t, p, 250), trustWAL: trust}
			if _, err := c.copy(context.Background(), liveAt(j.Path), dst); err != nil {
				t.Fatal(err)
			}
			last, err := judge(dst)
			switch {
			case trust && err == nil && last >= before:
				t.Errorf("the copy is sound at %d: the race was not made", last)
			case trust:
				t.Logf("without the comparison: ends at %d of %d: %v", last, before, err)
			case !trust && err != nil:
				t.Error(err)
			case !trust && last != before+250:
				t.Errorf("the copy ends at %d, want %d", last, before+250)
			}
		})
	}
}

// A WAL that never keeps its header is left to the backup API.
func TestFallback(t *testing.T) {
	dir := t.TempDir()
	j := job{Path: filepath.Join(dir, "live.db"), Journal: "wal"}
	p := filled(t, j, 500)
	if got := p.do(t, "row PRAGMA wal_checkpoint(FULL)"); !strings.HasPrefix(got, "0,") {
		t.Fatalf("checkpoint: %s", got)
	}
	c := copier{clone: func(ctx context.Context, dst, src *os.File, share bool) (fsx.CopyMethod, error) {
		if strings.HasSuffix(dst.Name(), walSuffix) {
			p.do(t, "commit 1")
			spoil(t, src.Name())
		}
		return fsx.CloneOrCopy(ctx, dst, src, share)
	}}
	dst := filepath.Join(dir, "copy.db")
	copied, err := c.copy(context.Background(), liveAt(j.Path), dst)
	if err != nil {
		t.Fatal(err)
	}
	if copied.Method != "backup-api (fallback: the WAL could not be copied: it was restarted 3 times)" {
		t.Errorf("method %q", copied.Method)
	}
	if last := sound(t, dst); last != 500 {
		t.Errorf("the copy ends at %d, want what the pin saw, 500", last)
	}
	onlyFile(t, dst)
}

// spoil changes the salt in a WAL's header.
func spoil(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	salt := make([]byte, 1)
	if _, err := f.ReadAt(salt, 16); err != nil {
		t.Fatal(err)
	}
	salt[0]++
	if _, err := f.WriteAt(salt, 16); err != nil {
		t.Fatal(err)
	}
}

// onlyFile fails when something stands beside a copy.
func onlyFile(t *testing.T, path string) {
	t.Helper()
	if err := standsAlone(path); err != nil {
		t.Error(err)
	}
}

// The descriptors of the copy must not cost the pin its locks.
func TestPinHoldsWhileCopying(t *testing.T) {
	dir := t.TempDir()
	j := job{Path: filepath.Join(dir, "live.db"), Journal: "wal", Pragmas: []string{"PRAGMA wal_autocheckpoint = 0"}}
	p := filled(t, j, 500)
	p.do(t, "PRAGMA busy_timeout = 1")
	var answers []string
	c := copier{clone: func(ctx context.Context, dst, src *os.File, share bool) (fsx.CopyMethod, error) {
		p.do(t, "commit 1")
		method, err := fsx.CloneOrCopy(ctx, dst, src, share)
		answers = append(answers, p.do(t, "row PRAGMA wal_checkpoint(TRUNCATE)"))
		return method, err
	}}
	dst := filepath.Join(dir, "copy.db")
	if _, err := c.copy(context.Background(), liveAt(j.Path), dst); err != nil {
		t.Fatal(err)
	}
	for _, answer := range answers {
		if !strings.HasPrefix(answer, "1,") {
			t.Errorf("a checkpoint passed the pin: %s", answer)
		}
	}
	if len(answers) != 2 {
		t.Errorf("%d checkpoints were tried", len(answers))
	}
	if last := sound(t, dst); last < 500 {
		t.Errorf("the copy ends at %d", last)
	}
	if got := p.do(t, "row PRAGMA wal_checkpoint(TRUNCATE)"); !strings.HasPrefix(got, "0,") {
		t.Errorf("after the copy a checkpoint is still held up: %s", got)
	}
}

// contents reads the database and its WAL or journal.
func contents(t *testing.T, path string) (all [3]string) {
	t.Helper()
	for i, suffix := range []string{"", walSuffix, journalSuffix} {
		data, err := os.ReadFile(path + suffix)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		all[i] = string(data)
	}
	return all
}

func TestCopyLeavesTheSourceAlone(t *testing.T) {
	crash := func(p *child) { p.Kill() }
	for _, test := range []struct {
		name    string
		journal string
		end     func(*child)
		method  string
	}{
		{"wal, idle application", "wal", func(*child) {}, "wal-"},
		{"wal, crashed application", "wal", crash, "wal-"},
		{"wal, closed", "wal", closeChild, "wal-"},
		{"rollback, idle", "delete", func(*child) {}, "backup-api"},
		{"rollback, closed", "delete", closeChild, "backup-api"},
		{"rollback, crashed in mid-transaction", "delete", func(p *child) {
			p.do(t, "PRAGMA cache_size = 1")
			p.do(t, "BEGIN")
			p.do(t, "UPDATE ledger SET pad = randomblob(3001)") // spills into the file
			p.do(t, "UPDATE state SET last = -1")
			p.Kill()
		}, "immutable (rolled back the transaction that a crash had left)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			j := job{
				Path:    filepath.Join(dir, "live.db"),
				Journal: test.journal,
				Pragmas: []string{"PRAGMA wal_autocheckpoint = 0"},
			}
			p := filled(t, j, 300)
			p.do(t, "commit 10")
			test.end(p)
			before := contents(t, j.Path)
			dst := filepath.Join(dir, "copy.db")
			copied := mustCopy(t, j.Path, dst)
			if !strings.HasPrefix(copied.Method, test.method) {
				t.Errorf("method %s", copied.Method)
			}
			if last := sound(t, dst); last != 310 {
				t.Errorf("the copy ends at %d, want 310", last)
			}
			if test.method == "backup-api" && contents(t, dst) != before {
				t.Error("the copy has other bytes") // it could share nothing with the copy before
			}
			if contents(t, j.Path) != before {
				t.Error("the source is not as it was")
			}
			// The application comes back as if nothing had been.
			back := start(t, "puppet", j)
			if got := back.do(t, "commit 1"); got != "311" {
				t.Errorf("the application goes on at %s", got)
			}
		})
	}
}

func TestCrashedFastWriter(t *testing.T) {
	for _, journal := range []string{"wal", "delete"} {
		t.Run(journal, func(t *testing.T) {
			dir := t.TempDir()
			j := job{Path: filepath.Join(dir, "live.db"), Journal: journal}
			w := start(t, "writer", j)
			committed := int64(0)
			for range 200 {
				committed, _ = strconv.ParseInt(w.Line(), 10, 64)
			}
			w.Kill()
			dst := filepath.Join(dir, "copy.db")
			mustCopy(t, j.Path, dst)
			if last := sound(t, dst); last < committed {
				t.Errorf("the copy ends at %d, %d was committed", last, committed)
			}
		})
	}
}

func TestPageSizes(t *testing.T) {
	for _, size := range []int{512, 1024, 8192, 65536} {
		for _, journal := range []string{"wal", "delete"} {
			t.Run(fmt.Sprint(size, journal), func(t *testing.T) {
				dir := t.TempDir()
				j := job{Path: filepath.Join(dir, "live.db"), Journal: journal,
					Pragmas: []string{fmt.Sprintf("PRAGMA page_size = %d", size), "PRAGMA auto_vacuum = full"}}
				p := filled(t, j, 300)
				p.do(t, "CREATE TABLE waste AS SELECT * FROM ledger")
				p.do(t, "DROP TABLE waste") // auto_vacuum shortens the file, in the WAL only
				p.do(t, "PRAGMA user_version = 42")
				p.do(t, "PRAGMA application_id = 77")
				dst := filepath.Join(dir, "copy.db")
				mustCopy(t, j.Path, dst)
				sound(t, dst)
				info, err := Inspect(context.Background(), dst)
				if err != nil {
					t.Fatal(err)
				}
				stat, err := os.Stat(dst)
				if err != nil {
					t.Fatal(err)
				}
				if info.PageSize != int64(size) || info.PageCount*info.PageSize != stat.Size() ||
					info.UserVersion != 42 || info.ApplicationID != 77 || info.JournalMode != journal {
					t.Errorf("%+v of %d bytes", info, stat.Size())
				}
			})
		}
	}
}

func TestPaths(t *testing.T) {
	for _, name := range []string{
		"with space.db",
		"100%.db",
		"what?mode=memory",
		"a#b",
		"a;b&c=d",
		"données-über-資料.db",
		`quote"'.db`,
		"%41.db",
		"colon:db",
		"line\nbreak",
	} {
		dir := filepath.Join(t.TempDir(), "dir "+name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		j := job{Path: filepath.Join(dir, name), Journal: "wal"}
		p := filled(t, j, 20)
		dst := filepath.Join(dir, "copy of "+name)
		copied := mustCopy(t, j.Path, dst)
		if last := sound(t, dst); last != 20 || !strings.HasPrefix(copied.Method, "wal-") {
			t.Errorf("%q: ends at %d, method %s", name, last, copied.Method)
		}
		p.Close()
	}
}

func TestLinks(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	j := job{Path: filepath.Join(dir, "live.db"), Journal: "wal", Pragmas: []string{"PRAGMA wal_autocheckpoint = 0"}}
	filled(t, j, 20)
	symbolic, hard := filepath.Join(elsewhere, "link.db"), filepath.Join(elsewhere, "kept.db")
	if err := errors.Join(os.Symlink(j.Path, symbolic), os.Link(j.Path, hard)); err != nil {
		t.Fatal(err)
	}
	for i, path := range []string{symbolic, j.Path} {
		dst := filepath.Join(dir, fmt.Sprintf("copy%d.db", i))
		mustCopy(t, path, dst)
		if last := sound(t, dst); last != 20 {
			t.Errorf("%s: the copy ends at %d: it was looked for the WAL in the wrong place", path, last)
		}
	}
	onlyFile(t, symbolic)
}

func TestPermissionsOfTheCopy(t *testing.T) {
	dir := t.TempDir()
	j := job{Path: filepath.Join(dir, "live.db"), Journal: "wal"}
	filled(t, j, 5)
	if err := os.Chmod(j.Path, 0o664); err != nil {
		t.Fatal(err)
	}
	dst := filepath.Join(dir, "copy.db")
	mustCopy(t, j.Path, dst)
	if info, err := os.Stat(dst); err != nil || info.Mode() != 0o664 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestDestinationIsNeverReplaced(t *testing.T) {
	dir := t.TempDir()
	j := job{Path: filepath.Join(dir, "live.db"), Journal: "wal"}
	filled(t, j, 5)
	dst := filepath.Join(dir, "copy.db")
	for _, suffix := range []string{"", walSuffix, shmSuffix, journalSuffix} {
		if err := os.WriteFile(dst+suffix, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Copy(context.Background(), liveAt(j.Path), dst, CopyOptions{}); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: %v", suffix, err)
		}
		if data, err := os.ReadFile(dst + suffix); err != nil || string(data) != "mine" {
			t.Errorf("%s was touched: %q %v", suffix, data, err)
		}
		if err := os.Remove(dst + suffix); err != nil {
			t.Fatal(err)
		}
	}
}

func TestExclusiveHolder(t *testing.T) {
	for _, journal := range []string{"wal", "delete"} {
		dir := t.TempDir()
		j := job{
			Path:    filepath.Join(dir, "live.db"),
			Journal: journal,
			Pragmas: []string{"PRAGMA locking_mode = exclusive"},
		}
		p := filled(t, j, 5)
		dst := filepath.Join(dir, "copy.db")
		_, err := Copy(context.Background(), liveAt(j.Path), dst, CopyOptions{BusyTimeout: 50 * time.Millisecond})
		want := fmt.Sprintf("copy database: %s: pid %d (", j.Path, p.Cmd.Process.Pid)
		if err == nil || !strings.HasPrefix(err.Error(), want) ||
			!strings.Contains(err.Error(), "locking_mode=EXCLUSIVE") {
			t.Errorf("%v, want %s…", err, want)
		}
		_, err = Copy(context.Background(), liveAt(j.Path),
			dst,
			CopyOptions{BusyTimeout: time.Hour, Deadline: 50 * time.Millisecond},
		)
		if err == nil || !strings.Contains(err.Error(), "not finished within 50ms") {
			t.Errorf("%v, want the deadline", err)
		}
		onlyFile(t, dst)
		if _, err := os.Lstat(dst); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a copy was left: %v", err)
		}
	}
}

func TestCancel(t *testing.T) {
	for _, journal := range []string{"wal", "delete"} {
		dir := t.TempDir()
		j := job{Path: filepath.Join(dir, "live.db"), Journal: journal}
		filled(t, j, 3000)
		before := fsxtest.Tree(t, dir)
		ctx, cancel := context.WithCancel(context.Background())
		stop := fsx.Observe(func(fsx.Op, string) error { cancel(); return nil })
		_, err := Copy(ctx, liveAt(j.Path), filepath.Join(dir, "copy.db"), CopyOptions{})
		stop()
		if failure.KindOf(err) != failure.Interrupted {
			t.Errorf("%s: %v", journal, err)
		}
		if after := fsxtest.Tree(t, dir); after != before {
			t.Errorf("%s: left behind:\n%s", journal, after)
		}
	}
}

func TestFailuresLeaveNothing(t *testing.T) {
	for _, test := range []struct {
		name, journal string
		end           func(*child)
	}{
		{"wal", "wal", func(*child) {}},
		{"backup", "delete", func(*child) {}},
		{"journal", "delete", func(p *child) {
			p.do(t, "PRAGMA cache_size = 1")
			p.do(t, "BEGIN")
			p.do(t, "UPDATE ledger SET pad = randomblob(3001)")
			p.Kill()
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			j := job{Path: filepath.Join(dir, "live.db"), Journal: test.journal}
			test.end(filled(t, j, 300))
			before, dst := fsxtest.Tree(t, dir), filepath.Join(dir, "copy.db")
			fsxtest.EachFailure(t, func() error {
				_, err := Copy(context.Background(), liveAt(j.Path), dst, CopyOptions{})
				return err
			}, func(k int, at string, err error) {
				if !errors.Is(err, fsxtest.ErrInjected) {
					t.Errorf("call %d, %s: %v", k, at, err)
				}
				if after := fsxtest.Tree(t, dir); after != before {
					t.Errorf("call %d, %s left:\n%s", k, at, after)
				}
			})
			sound(t, dst)
		})
	}
}

// Killed anywhere, a copy leaves the source as it was and locked by nobody.
func TestKilledCopier(t *testing.T) {
	for _, journal := range []string{"wal", "delete"} {
		t.Run(journal, func(t *testing.T) {
			dir := t.TempDir()
			j := job{
				Path:    filepath.Join(dir, "live.db"),
				Journal: journal,
				Pragmas: []string{"PRAGMA wal_autocheckpoint = 0"},
			}
			p := filled(t, j, 100)
			p.do(t, "PRAGMA busy_timeout = 0")
			for k := 1; ; k++ {
				last, _ := strconv.ParseInt(p.do(t, "commit 1"), 10, 64)
				before := contents(t, j.Path)
				dst := filepath.Join(dir, fmt.Sprintf("copy%d.db", k))
				c := start(t, "copier", job{Path: j.Path, Dst: dst}, withEnv(fsxtest.KillEnv(k)))
				for c.Scan() {
				}
				err := c.Cmd.Wait()
				if contents(t, j.Path) != before {
					t.Fatalf("killed at call %d: the source changed", k)
				}
				if status := c.Cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() {
					if err != nil || k < 3 {
						t.Fatalf("call %d: %v", k, err)
					}
					if got := sound(t, dst); got != last {
						t.Errorf("the copy ends at %d, want %d", got, last)
					}
					return
				}
			}
		})
	}
}

func TestConcurrentCopiesTakeTurns(t *testing.T) {
	dir := t.TempDir()
	j := job{Path: filepath.Join(dir, "live.db"), Journal: "wal"}
	p := filled(t, j, 100)
	var inside, most atomic.Int32
	c := copier{clone: func(ctx context.Context, dst, src *os.File, share bool) (fsx.CopyMethod, error) {
		most.Store(max(most.Load(), inside.Add(1)))
		defer inside.Add(-1)
		p.do(t, "commit 1") // only one at a time may talk to the puppet
		return fsx.CloneOrCopy(ctx, dst, src, share)
	}}
	results := make(chan error)
	for i := range 4 {
		go func() {
			_, err := c.copy(context.Background(), liveAt(j.Path), filepath.Join(dir, fmt.Sprintf("copy%d.db", i)))
			results <- err
		}()
	}
	for range 4 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if most.Load() != 1 {
		t.Errorf("%d copies of one source at once", most.Load())
	}
}

func TestRequiredTables(t *testing.T) {
	for _, journal := range []string{"wal", "delete"} {
		dir := t.TempDir()
		j := job{Path: filepath.Join(dir, "live.db"), Journal: journal}
		filled(t, j, 5)
		dst := filepath.Join(dir, "copy.db")
		_, err := Copy(
			context.Background(),
			liveAt(j.Path),
			dst,
			CopyOptions{RequiredTables: []string{"Ledger", "memories"}},
		)
		if err == nil ||
			!strings.Contains(
				err.Error(),
				"required table memories is missing: check that this is the right database",
			) {
			t.Errorf("%v", err)
		}
		if _, err := os.Lstat(dst); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a copy was left: %v", err)
		}
	}
}
