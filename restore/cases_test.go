package restore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/fsxtest"
	"github.com/atocore/atobackupd/internal/provetest"
	"github.com/atocore/atobackupd/snapshot"
)

// Snapshots that lack something, or hold what cannot be restored: exit 3 with the
// finding, and with --allow-invalid what is there is restored and the rest named.
func TestDamagedSnapshots(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(dir string) error
		says  string // the refusal
		warns string // what --allow-invalid says
		lacks string // the artifact that stays what it was
	}{
		"registry gone": {func(dir string) error { return os.Remove(filepath.Join(dir, snapshot.RegistryFile)) },
			"project-registry.json", "registry_missing", snapshot.Registry},
		"database gone": {func(dir string) error { return os.RemoveAll(filepath.Join(dir, "db")) },
			"db/atocore.db", "db_snapshot_missing", snapshot.DB},
		"chroma gone": {func(dir string) error { return os.RemoveAll(filepath.Join(dir, "chroma")) },
			"chroma", "chroma_snapshot_missing", snapshot.Chroma},
		"rotten manifest": {func(dir string) error { return spoilManifest(dir, "\x00{") },
			"atobackupd.json", "atobackupd.json", ""},
		"a foreign FIFO": {func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, snapshot.ManifestFile)),
				unix.Mkfifo(filepath.Join(dir, "chroma/pipe"), 0o644))
		}, "chroma/pipe", "chroma/pipe", ""},
		"a link that leads out": {func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, snapshot.ManifestFile)),
				os.Symlink("/etc/passwd", filepath.Join(dir, "chroma/abs")))
		}, "chroma/abs", "chroma/abs", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			r := s.mustRequest(t)
			before := s.mustPrint(t)
			if err := c.spoil(r.dir()); err != nil {
				t.Fatal(err)
			}
			_, err := Run(context.Background(), r)
			if failure.KindOf(err) != failure.Invalid || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v", err)
			}
			drilled, err := Drill(context.Background(), drillOf(t, s))
			if err != nil || drilled.Passed {
				t.Errorf("a drill passes what a restore refuses: %+v, %v", drilled, err)
			}
			if s.mustPrint(t) != before {
				t.Fatal("something was touched")
			}
			r.AllowInvalid = true
			res, err := Run(context.Background(), r)
			if err != nil || !strings.Contains(strings.Join(res.Warnings, "\n"), c.warns) {
				t.Fatalf("with --allow-invalid: %+v, %v", res, err)
			}
			restored := map[string]bool{snapshot.DB: res.DBRestored, snapshot.Registry: res.RegistryRestored,
				snapshot.Chroma: res.ChromaRestored}
			for artifact, yes := range restored {
				if yes == (artifact == c.lacks) {
					t.Errorf("%s restored: %v", artifact, yes)
				}
			}
			assertNoTraces(t, s)
		})
	}
}

func spoilManifest(dir, content string) error {
	path := filepath.Join(dir, snapshot.ManifestFile)
	return errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, []byte(content), 0o600))
}

// What dockerd made anew as root is given back to the application.
func TestOwnersOfWhatRootMadeAnew(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for name, c := range map[string]struct {
		remake func(Live) error
		gives  bool // the directory itself, with a warning
	}{
		"chroma":              {func(l Live) error { return remakeDir(l.Chroma) }, true},
		"directory of the db": {func(l Live) error { return remakeDir(filepath.Dir(l.DB)) }, true},
		"one segment":         {func(l Live) error { return os.RemoveAll(filepath.Join(l.Chroma, "seg")) }, false},
		"chroma with room for all": {func(l Live) error {
			return errors.Join(remakeDir(l.Chroma), os.Chmod(l.Chroma, 0o777))
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			err := filepath.WalkDir(filepath.Join(s.base, "live"), func(path string, _ os.DirEntry, err error) error {
				return errors.Join(err, os.Lchown(path, 1000, 1001))
			})
			if err != nil {
				t.Fatal(err)
			}
			r := s.mustRequest(t)
			r.Stamp = s.take(t)
			if err := c.remake(s.live()); err != nil {
				t.Fatal(err)
			}
			res, err := Run(context.Background(), r)
			if err != nil {
				t.Fatal(err)
			}
			if gave := strings.Contains(strings.Join(res.Warnings, "\n"), "was given back"); gave != c.gives {
				t.Errorf("warnings: %v", res.Warnings)
			}
			for line := range strings.Lines(s.mustPrint(t)) {
				fields := strings.Fields(line)
				wide := name == "chroma with room for all" && fields[0] == "chroma"
				if fields[0] != "." && !wide && fields[2] != "1000:1001" {
					t.Errorf("the application cannot write %s", line)
				}
			}
		})
	}
}

func remakeDir(dir string) error { return errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)) }

// A default access control list of the live directory opens no restored file to
// users who could not read what stood there.
func TestInheritsNoAccessControlList(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	live := s.live()
	acl := binary.LittleEndian.AppendUint32(nil, 2)
	const nobody = ^uint32(0)
	for _, e := range []struct{ tag, perm, id uint32 }{
		{1, 7, nobody},
		{2, 4, 1002},
		{4, 5, nobody},
		{0x10, 7, nobody},
		{0x20, 0, nobody},
	} {
		acl = binary.LittleEndian.AppendUint16(acl, uint16(e.tag))
		acl = binary.LittleEndian.AppendUint16(acl, uint16(e.perm))
		acl = binary.LittleEndian.AppendUint32(acl, e.id)
	}
	for _, dir := range []string{filepath.Dir(live.DB), live.Chroma} {
		if err := unix.Setxattr(dir, "system.posix_acl_default", acl, 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Run(context.Background(), s.mustRequest(t)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{live.DB, filepath.Join(live.Chroma, "both.bin"), live.Chroma + "/seg/data.bin"} {
		if n, err := unix.Getxattr(path, "system.posix_acl_access", nil); n > 0 || err == nil {
			t.Errorf("%s has a list of %d bytes", path, n)
		}
	}
}

// Configured places that cannot be restored over or into.
func TestRefusesPlaces(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(*testing.T, scene, *Request)
		says  string
	}{
		"chroma is a file": {func(t *testing.T, s scene, r *Request) {
			if err := errors.Join(os.RemoveAll(r.Live.Chroma), os.WriteFile(r.Live.Chroma, nil, 0o644)); err != nil {
				t.Fatal(err)
			}
		}, "not a directory"},
		"the registry is a directory": {func(t *testing.T, s scene, r *Request) {
			if err := errors.Join(os.Remove(r.Live.Registry), os.Mkdir(r.Live.Registry, 0o755)); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file"},
		"to inside chroma": {func(_ *testing.T, _ scene, r *Request) { r.To = filepath.Join(r.Live.Chroma, "here") },
			"which this program writes itself"},
		"to inside the backups": {func(_ *testing.T, _ scene, r *Request) {
			r.To = filepath.Join(r.Store.Dir(), "staging/mine")
		},
			"which this program writes itself"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			r := s.mustRequest(t)
			c.spoil(t, s, &r)
			before := s.mustPrint(t)
			_, err := Run(context.Background(), r)
			var known *failure.Error
			refused := errors.As(err, &known) && known.Kind == failure.Refused && known.Hint != ""
			if !refused || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v", err)
			}
			if s.mustPrint(t) != before {
				t.Error("something was touched")
			}
		})
	}
}

// A link in Chroma's directory that leads elsewhere is in the pre-restore
// snapshot as a link, or is kept beside the live directory: it is never deleted.
func TestLinksAreSavedAsLinks(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	seg, big := filepath.Join(s.live().Chroma, "seg"), filepath.Join(s.base, "big")
	if err := errors.Join(os.Rename(seg, big), os.Symlink(big, seg)); err != nil {
		t.Fatal(err)
	}
	r := s.mustRequest(t)
	res, err := Run(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	inAnchor := filepath.Join(r.Store.Path(snapshot.Stamp(res.PreRestoreSnapshot)), "chroma/seg")
	for _, path := range []string{inAnchor, filepath.Join(keptDir(s.live().Chroma, s.stamp), "seg")} {
		if target, err := os.Readlink(path); err == nil && target == big {
			return
		}
	}
	t.Errorf("the link is gone: %+v", res)
}

// A journal whose copies somebody has deleted is given up with --abort --force,
// which says what is lost.
func TestGivesUpWithoutWorkspaces(t *testing.T) {
	if !alone(t) {
		return
	}
	s, o := pendingScene(t)
	if err := os.RemoveAll(workDir(filepath.Dir(s.live().DB), s.stamp)); err != nil {
		t.Fatal(err)
	}
	for _, end := range []func(context.Context, ResumeOptions) (Result, error){Resume, Abort} {
		if _, err := end(context.Background(), o); err == nil || !strings.Contains(err.Error(), "--abort --force") {
			t.Errorf("got %v", err)
		}
	}
	o.Force = true
	res, err := Abort(context.Background(), o)
	told := strings.Join(res.Warnings, "\n")
	if err != nil || !strings.Contains(told, "the old db is lost") || !strings.Contains(told, string(s.stamp)) {
		t.Fatalf("%v, %v", res.Warnings, err)
	}
	assertNoTraces(t, s)
	r := s.mustRequest(t)
	if res, err := Run(context.Background(), r); err != nil || contents(t, s.live().DB) != "new" {
		t.Errorf("a restore afterwards: %+v, %v", res, err)
	}
}

// TestAnchoringFails fails every file-changing call of the phase anchoring, one a
// time: the restored store stays, nothing of the old one is lost, and what is
// unfinished is finished, dropped or taken back.
func TestAnchoringFails(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newScene(t)
	template := s.base + ".template"
	t.Cleanup(func() { os.RemoveAll(template) })
	mustCopy(t, s.base, template)
	count := map[string]int{}
	for k := 1; ; k++ {
		end := []string{"resume", "abort", "drop"}[k%3]
		mustCopy(t, template, s.base)
		calls, at := 0, k
		stop := fsx.Observe(func(op fsx.Op, path string) error {
			if calls == 0 {
				if j, err := pendingIn(s.backups()); err != nil || j == nil || j.Phase != PhaseAnchoring {
					return nil
				}
			}
			if calls++; calls == at {
				return errors.New("injected")
			}
			return nil
		})
		r := s.mustRequest(t)
		res, err := Run(context.Background(), r)
		stop()
		if calls < k {
			if err != nil {
				t.Errorf("without a failure: %v", err)
			}
			break
		}
		if exists(journalPath(s.backups())) {
			count[end]++
			o := resumeOptions(r.Store)
			switch end {
			case "abort":
				res, err = Abort(context.Background(), o)
			case "drop":
				o.NoPreSnapshot = true
				res, err = Resume(context.Background(), o)
			default:
				res, err = Resume(context.Background(), o)
			}
			if err != nil {
				t.Errorf("call %d failed, then %s: %v", k, end, err)
			}
		}
		if anchored(t, s, res, fmt.Sprintf("call %d failed, then %s", k, end)) {
			count["anchored"]++
		}
		assertNoTraces(t, s)
	}
	if count["resume"] < 5 || count["abort"] < 5 || count["drop"] < 5 || count["anchored"] < 5 {
		t.Errorf("hardly anything was tested: %v", count)
	}
	t.Log(count)
}

// anchored checks what a restore that was disturbed while anchoring came to, and
// reports whether it left a pre-restore snapshot, which must hold everything.
func anchored(t *testing.T, s scene, res Result, what string) bool {
	t.Helper()
	got, want := contentsWithWAL(t, s), "new"
	if !res.DBRestored {
		want = "old,old in the wal"
	}
	if got != want {
		t.Errorf("%s: the database says %q", what, got)
	}
	if !res.DBRestored || res.PreRestoreSnapshot == "" {
		return false
	}
	saved := filepath.Join(s.backups(), "snapshots", res.PreRestoreSnapshot, snapshot.DBFile)
	// What could not be copied in order is saved raw, its -wal beside it.
	raw := exists(saved+"-wal") && strings.Contains(strings.Join(res.Warnings, "\n"), "was not whole")
	if got := contents(t, saved); got != "old,old in the wal" && !raw {
		t.Errorf("%s: the pre-restore snapshot says %q: %v", what, got, res.Warnings)
	}
	return true
}

// TestKillWhileAnchoring kills a restore before every call of the phase
// anchoring, and finishes it or takes it back.
func TestKillWhileAnchoring(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newScene(t)
	template := s.base + ".template"
	t.Cleanup(func() { os.RemoveAll(template) })
	mustCopy(t, s.base, template)
	r := s.mustRequest(t)
	before, inPhase := 0, false
	stop := fsx.Observe(func(fsx.Op, string) error {
		if !inPhase {
			before++
			j, err := pendingIn(s.backups())
			inPhase = err == nil && j != nil && j.Phase == PhaseAnchoring
		}
		return nil
	})
	_, err := Run(context.Background(), r)
	stop()
	if err != nil || !inPhase {
		t.Fatalf("anchoring was never seen: %v", err)
	}
	count := map[string]int{}
	for k := before; ; k++ {
		mustCopy(t, template, s.base)
		c := again("anchored", childInput{s.base, s.stamp}, fsxtest.KillEnv(k))
		if err := c.Run(); err == nil {
			break
		} else if c.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("call %d: %v", k, err)
		}
		j, err := pendingIn(s.backups())
		if err != nil {
			t.Fatal(err)
		}
		if j == nil {
			count["over"]++
			continue
		}
		end, finish := "resume", Resume
		if k%2 == 0 {
			end, finish = "abort", Abort
		}
		res, err := finish(context.Background(), resumeOptions(s.mustRequest(t).Store))
		if err != nil {
			t.Errorf("killed before call %d (%s), then %s: %v", k, j.Phase, end, err)
		}
		if res.DBRestored != (end == "resume" || j.Phase == PhaseCommitted) {
			t.Errorf("killed before call %d (%s), then %s: %+v", k, j.Phase, end, res)
		}
		count[string(j.Phase)+", "+end]++
		if anchored(t, s, res, fmt.Sprintf("killed before call %d, then %s", k, end)) {
			count["anchored"]++
		}
		assertNoTraces(t, s)
	}
	if count["anchoring, resume"] < 5 || count["anchoring, abort"] < 5 || count["anchored"] < 5 {
		t.Errorf("hardly anything was tested: %v", count)
	}
	t.Log(count)
	provetest.Points(t, count["anchoring, resume"]+count["anchoring, abort"])
}

// A journal that version 0.1.0 left beside the backups is finished or taken back,
// where nobody else can have written it.
func TestJournalOfTheFirstVersion(t *testing.T) {
	if !alone(t) {
		return
	}
	for end, want := range map[string]string{"resume": "new", "abort": "old,old in the wal"} {
		t.Run(end, func(t *testing.T) {
			s, o := pendingScene(t)
			data := mustRead(t, journalPath(s.backups()))
			first := strings.Replace(data, `"schema": 2`, `"schema": 1`, 1)
			if first == data {
				t.Fatal("no schema in " + data)
			}
			path := filepath.Join(s.backups(), JournalFile)
			err := errors.Join(
				os.WriteFile(path, []byte(first), 0o600),
				os.Remove(journalPath(s.backups())),
				os.Chmod(s.backups(), 0o777),
			)
			if err != nil {
				t.Fatal(err)
			}
			finish := map[string]func(context.Context, ResumeOptions) (Result, error){
				"resume": Resume,
				"abort":  Abort,
			}[end]
			if _, err := finish(context.Background(), o); failure.KindOf(err) != failure.Refused {
				t.Errorf("where others can write: %v", err)
			}
			if err := os.Chmod(s.backups(), 0o700); err != nil {
				t.Fatal(err)
			}
			if _, err := finish(context.Background(), o); err != nil {
				t.Fatal(err)
			}
			if got := contentsWithWAL(t, s); got != want {
				t.Errorf("the database says %q", got)
			}
			if exists(path) {
				t.Error("its journal still stands")
			}
			assertNoTraces(t, s)
		})
	}
}
