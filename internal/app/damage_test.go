package app

import (
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/snapshot"
)

// shipped is an installation with three snapshots in its vault, of a database that
// changes, and the key that opens them.
type shipped struct {
	*house
	key    string
	stamps []snapshot.Stamp
}

func newShipped(t *testing.T, more string) *shipped {
	t.Helper()
	h := &shipped{house: newHouse(t, "[offsite.retention]\ndaily = 0\nweekly = 0\nmonthly = 0\n"+more)}
	h.key = h.path("key.txt")
	recipient, err := crypt.WriteIdentity(h.key)
	if err != nil {
		t.Fatal(err)
	}
	h.rotate(recipient)
	a := h.open()
	defer a.Close()
	for day := range 3 {
		h.take(a, day)
		h.mustSync(a)
	}
	return h
}

// take changes the database and takes a snapshot of it.
func (h *shipped) take(a *App, day int) {
	h.t.Helper()
	h.change(day)
	doc, err := a.Backup(h.t.Context(), snapshot.Daily, false, time.Now().Add(time.Duration(day)*time.Second))
	if err != nil {
		h.t.Fatal(err)
	}
	h.stamps = append(h.stamps, doc.Stamp)
}

func (h *shipped) change(day int) {
	h.t.Helper()
	db, err := sql.Open("sqlite", h.path("data/a.db"))
	if err != nil {
		h.t.Fatal(err)
	}
	defer db.Close()
	random := rand.NewChaCha8([32]byte{byte(day)})
	blob := make([]byte, 60<<10)
	random.Read(blob)
	if _, err := db.Exec("INSERT INTO t VALUES (?)", blob); err != nil {
		h.t.Fatal(err)
	}
}

func (h *shipped) mustSync(a *App) Synced {
	h.t.Helper()
	docs, err := a.Sync(h.t.Context(), "", false)
	if err != nil {
		h.t.Fatal(err)
	}
	return docs[0]
}

// wantWhole restores every snapshot, with this program and with recover.py alone,
// and compares it with the one that is here.
func (h *shipped) wantWhole(a *App) {
	h.t.Helper()
	identities, err := a.Identities(h.key)
	if err != nil {
		h.t.Fatal(err)
	}
	v, err := a.OpenVaultTarget(h.t.Context(), a.Config.Offsite[0], nil)
	if err != nil {
		h.t.Fatal(err)
	}
	defer v.Close()
	for i, stamp := range h.stamps {
		to := filepath.Join(h.t.TempDir(), "out")
		if _, _, err := v.Restore(h.t.Context(), string(stamp), identities, to, false, nil); err != nil {
			h.t.Errorf("%s: %v", stamp, err)
			continue
		}
		h.wantSame(stamp, to)
		if i > 0 { // recover.py takes a second
			continue
		}
		to = filepath.Join(h.t.TempDir(), "py")
		script := "recover.py"
		out, err := exec.Command("python3", "-I", h.path("vault/"+script), string(stamp), "--identity", h.key, "--to",
			to).CombinedOutput()
		if err != nil {
			h.t.Errorf("recover.py: %v\n%s", err, out)
			continue
		}
		h.wantSame(stamp, to)
	}
}

func (h *shipped) wantSame(stamp snapshot.Stamp, to string) {
	h.t.Helper()
	if out, err := exec.Command("diff", "-r", h.path("backups/snapshots/"+string(stamp)),
		to).CombinedOutput(); err != nil {
		h.t.Errorf("%s: %v\n%s", stamp, err, out)
	}
}

// objects names the objects of the vault by kind: of packs and pushes the oldest
// and the newest.
func (h *shipped) objects() map[string]string {
	h.t.Helper()
	kinds := map[string]string{"recover.py": "recover.py", "README.txt": "README.txt", "vault.json": "vault.json"}
	for _, pattern := range []string{"packs/*.age", "snapshots/*.manifest.age", "snapshots/*.json",
		"snapshots/*.SHA256SUMS",
		"snapshots/*.SHA256SUMS.sig", "policy/*.json", "policy/*.json.sig", "host/*.age", "host/*.age.sig"} {
		names, err := filepath.Glob(h.path("vault/" + pattern))
		if err != nil || len(names) == 0 {
			h.t.Fatalf("%s: %v, %v", pattern, names, err)
		}
		slices.Sort(names)
		for i := range names {
			names[i] = strings.TrimPrefix(names[i], h.path("vault")+"/")
		}
		kinds["newest "+pattern] = names[len(names)-1]
		if len(names) > 1 {
			kinds["oldest "+pattern] = names[0]
		}
	}
	return kinds
}

var harms = map[string]func(path string) error{
	"flipped": func(path string) error {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		data[len(data)/2] ^= 1
		return os.WriteFile(path, data, 0o600)
	},
	"cut": func(path string) error {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		return os.Truncate(path, info.Size()/2)
	},
	"removed": os.Remove,
}

// Each kind of object, harmed in each way: verify names it, the next sync mends
// it, the verify after that is clean, and every snapshot comes back byte for byte.
func TestDamageIsFoundAndMended(t *testing.T) {
	kinds := newShipped(t, "").objects()
	for kind := range kinds {
		for how, harm := range harms {
			if kind == "vault.json" && (how == "removed" || how == "flipped") {
				continue // another vault's, or none: sync refuses it until vault init; the rest is not signed
			}
			t.Run(kind+" "+how, func(t *testing.T) {
				t.Parallel()
				wantMended(t, kind, harm)
			})
		}
	}
}

// wantMended harms an object of a kind in a vault of its own.
func wantMended(t *testing.T, kind string, harm func(path string) error) {
	t.Helper()
	h := newShipped(t, "")
	name := h.objects()[kind]
	if err := harm(h.path("vault/" + name)); err != nil {
		t.Fatal(err)
	}
	h.wantMended(name)
}

// Only a plain file is an object: whatever else has its name, it is as good as
// missing, and the rest of the vault is looked at all the same.
func TestWhatIsNoFileIsDamage(t *testing.T) {
	link := func(path string) error {
		aside := filepath.Join(filepath.Dir(filepath.Dir(filepath.Dir(path))), "aside")
		return errors.Join(os.Rename(path, aside), os.Symlink(aside, path))
	}
	directory := func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) }
	for kind, harm := range map[string]func(string) error{
		"newest snapshots/*.manifest.age": link, "oldest packs/*.age": directory, "newest policy/*.json.sig": link,
		"README.txt": directory, "recover.py": link, "vault.json": link,
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			wantMended(t, kind, harm)
		})
	}
}

func (h *shipped) wantMended(name string) {
	h.t.Helper()
	a := h.open()
	defer a.Close()
	target := a.Config.Offsite[0]
	doc, err := a.VerifyTarget(h.t.Context(), target, VerifyBounds{Fraction: 1})
	named := slices.ContainsFunc(doc.Findings, func(f offsite.Finding) bool {
		return strings.Contains(f.String(), filepath.Base(name))
	})
	if failure.KindOf(err) != failure.Invalid || !named {
		h.t.Fatalf("verify of a damaged %s: %v, %v", name, err, doc.Findings)
	}
	docs, err := a.Sync(h.t.Context(), "", false)
	if err != nil {
		h.t.Errorf("sync: %v", err)
	}
	if len(docs[0].Mended) == 0 {
		h.t.Errorf("%s: nothing was mended: %+v", name, docs[0])
	}
	doc, err = a.VerifyTarget(h.t.Context(), target, VerifyBounds{Fraction: 1})
	if err != nil {
		h.t.Errorf("verify after the sync: %v", err)
	}
	if checks, err := offsite.LoadChecks(a.Config.StateDir, target.Name); err != nil || len(checks.Findings) > 0 {
		h.t.Errorf("findings that stay: %v, %v", checks.Findings, err)
	}
	h.wantWhole(a)
}

// Without a verify, a sync sees by itself what is missing, says so once, and mends
// it.
func TestSyncFindsWhatIsMissing(t *testing.T) {
	for _, pattern := range []string{"oldest packs/*.age", "newest snapshots/*.manifest.age",
		"oldest snapshots/*.SHA256SUMS", "newest snapshots/*.SHA256SUMS.sig"} {
		t.Run(pattern, func(t *testing.T) {
			t.Parallel()
			h := newShipped(t, "")
			if err := os.Remove(h.path("vault/" + h.objects()[pattern])); err != nil {
				t.Fatal(err)
			}
			a := h.open()
			defer a.Close()
			docs, err := a.Sync(t.Context(), "", false)
			if err == nil || docs[0].State != "error" ||
				!strings.Contains(docs[0].Error, "target disk: sync: the vault is damaged") {
				t.Errorf("the first sync: %v, %+v", err, docs[0])
			}
			if docs, err = a.Sync(t.Context(), "", false); err != nil {
				t.Errorf("the second sync: %v, %+v", err, docs)
			}
			h.wantWhole(a)
		})
	}
}

// What nothing here can mend is named with what is lost, until it is forgotten.
func TestDamageThatCannotBeMended(t *testing.T) {
	h := newShipped(t, "")
	a := h.open()
	defer a.Close()
	oldest := h.stamps[0]
	if err := os.RemoveAll(h.path("backups/snapshots/" + string(oldest))); err != nil {
		t.Fatal(err)
	}
	if err := harms["flipped"](h.path("vault/" + h.objects()["oldest snapshots/*.manifest.age"])); err != nil {
		t.Fatal(err)
	}
	target := a.Config.Offsite[0]
	for range 2 {
		if _, err := a.VerifyTarget(t.Context(), target,
			VerifyBounds{Fraction: 1}); failure.KindOf(err) != failure.Invalid ||
			!strings.Contains(err.Error(), string(oldest)) {
			t.Errorf("verify: %v", err)
		}
		doc := h.mustSync(a)
		if !slices.ContainsFunc(doc.Warnings, func(w string) bool { return strings.Contains(w, string(oldest)) }) {
			t.Errorf("sync: %+v", doc)
		}
	}
	v, err := a.OpenVaultTarget(t.Context(), target, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if gone, err := v.ForgetSnapshot(t.Context(), string(oldest)); err != nil || len(gone) != 1 {
		t.Fatalf("%v, %v", gone, err)
	}
	h.mustSync(a)
	if doc, err := a.VerifyTarget(t.Context(), target, VerifyBounds{Fraction: 1}); err != nil ||
		len(doc.Snapshots) != 2 {
		t.Errorf("%v, %+v", err, doc)
	}
}

// Only a snapshot whose directory is gone was pruned. Whatever is missing inside
// one that is there is damage, and the others are sent.
func TestSyncSkipsOnlyWhatWasPruned(t *testing.T) {
	for name, lost := range map[string]string{"a file": "db/atocore.db", "the metadata": "backup-metadata.json"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newShipped(t, "")
			a := h.open()
			defer a.Close()
			for day := range 2 {
				h.take(a, day+3)
			}
			if err := os.Remove(h.path("backups/snapshots/" + string(h.stamps[3]) + "/" + lost)); err != nil {
				t.Fatal(err)
			}
			docs, err := a.Sync(t.Context(), "", false)
			if err == nil || docs[0].State != "error" || len(docs[0].Pushed) != 1 {
				t.Errorf("%v, %+v", err, docs[0])
			}
		})
	}
}

// A dry run makes nothing: no vault, no directory, no key.
func TestDryRunMakesNothing(t *testing.T) {
	h := newHouse(t, "")
	a := h.open()
	defer a.Close()
	if _, err := a.Backup(t.Context(), snapshot.Daily, false, time.Time{}); err != nil {
		t.Fatal(err)
	}
	for _, remove := range []bool{false, true} {
		if remove {
			if err := os.Remove(h.path("vault")); err != nil {
				t.Fatal(err)
			}
		}
		docs, err := a.Sync(t.Context(), "", true)
		if err != nil || len(docs[0].Skipped) != 1 {
			t.Errorf("%v, %+v", err, docs)
		}
	}
	for _, made := range []string{"vault", "state/signing_key", "state/targets/disk/state.json"} {
		if _, err := os.Lstat(h.path(made)); err == nil {
			t.Errorf("%s was made", made)
		}
	}
}

// A signing key that is lost is never replaced while a vault is pinned; reading
// goes on, and `vault init` goes on with a new key when it is asked to.
func TestLostSigningKey(t *testing.T) {
	h := newShipped(t, "")
	for _, name := range []string{"signing_key", "signing_key.pub"} {
		if err := os.Remove(h.path("state/" + name)); err != nil {
			t.Fatal(err)
		}
	}
	a := h.open()
	defer a.Close()
	v, err := a.OpenVaultTarget(t.Context(), a.Config.Offsite[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if list, _, err := v.ListVerified(t.Context(), v.Signers); err != nil || len(list) != 3 || len(v.Notes) != 1 {
		t.Errorf("%d snapshots, %v, notes %q", len(list), err, v.Notes)
	}
	docs, err := a.Sync(t.Context(), "", false)
	if err == nil || !strings.Contains(docs[0].Error, "is lost") || !strings.Contains(docs[0].Error, v.Signers[0]) {
		t.Errorf("%v", err)
	}
	if _, err := os.Lstat(h.path("state/signing_key")); err == nil {
		t.Fatal("a new key was made")
	}
	if _, err := a.InitVault(t.Context(), a.Config.Offsite[0]); err != nil {
		t.Fatal(err)
	}
	h.take(a, 3)
	h.mustSync(a)
	h.wantWhole(a)
}

// One target that is away holds up nothing.
func TestTargetsAreIndependent(t *testing.T) {
	h := newHouse(t, fmt.Sprintf(`
[[offsite]]
name = "a"
type = "dir"
path = %q
`, "/dev/null/vault"))
	a := h.open()
	defer a.Close()
	if _, err := a.Backup(t.Context(), snapshot.Daily, false, time.Time{}); err != nil {
		t.Fatal(err)
	}
	docs, err := a.Sync(t.Context(), "", false)
	if err == nil || len(docs) != 2 || docs[0].State != "ok" || len(docs[0].Pushed) != 1 || docs[1].State == "ok" {
		t.Errorf("%v, %+v", err, docs)
	}
	if !strings.HasPrefix(docs[1].Error, "target a: ") {
		t.Errorf("an error that names no target: %s", docs[1].Error)
	}
}

// What an operator takes out of a vault is no roll-back, also where it is the
// newest, and nothing is behind for it. What else was found stays found.
func TestForgetKeepsWhatElseWasFound(t *testing.T) {
	h := newShipped(t, "")
	if err := harms["flipped"](h.path("vault/recover.py")); err != nil {
		t.Fatal(err)
	}
	a := h.open()
	defer a.Close()
	target := a.Config.Offsite[0]
	if _, err := a.VerifyTarget(t.Context(), target, VerifyBounds{Fraction: 1}); failure.KindOf(err) != failure.Invalid {
		t.Errorf("verify: %v", err)
	}
	v, err := a.OpenVaultTarget(t.Context(), target, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if _, err := v.ForgetSnapshot(t.Context(), string(h.stamps[2])); err != nil {
		t.Fatal(err)
	}
	checks, err := offsite.LoadChecks(a.Config.StateDir, target.Name)
	if err != nil || len(checks.Findings) != 1 {
		t.Errorf("findings after it: %v, %v", checks.Findings, err)
	}
	if doc := h.mustSync(a); len(doc.Pushed) != 0 {
		t.Errorf("it was sent again: %+v", doc)
	}
	now := time.Now().Add(time.Hour)
	list, _, err := a.Snapshots(t.Context(), now)
	if err != nil {
		t.Fatal(err)
	}
	if got := a.targetStatus(health.Report{}, list, now)[0]; got.Behind != 0 || got.Newest != string(h.stamps[1]) {
		t.Errorf("%+v", got)
	}
}

// A push meets a page of a kept base file that is not what it was: the snapshots that
// share the file are read again at once, and what was sent is whole.
func TestPushFindsRotHere(t *testing.T) {
	t.Parallel()
	h := newShipped(t, "")
	bases, err := filepath.Glob(h.path("backups/base/disk/*/" + snapshot.DBFile))
	if err != nil || len(bases) == 0 {
		t.Fatalf("%v, %v", bases, err)
	}
	shared := map[snapshot.Stamp]bool{}
	for _, base := range bases {
		info, err := os.Lstat(base)
		if err != nil {
			t.Fatal(err)
		}
		for _, stamp := range h.stamps {
			held, err := os.Lstat(h.path("backups/snapshots/" + string(stamp) + "/" + snapshot.DBFile))
			shared[stamp] = shared[stamp] || err == nil && os.SameFile(info, held)
		}
		data, err := os.ReadFile(base)
		if err != nil {
			t.Fatal(err)
		}
		for at := 100; at < len(data); at += 4096 {
			data[at] ^= 1
		}
		if err := errors.Join(os.Chmod(base, 0o600), os.WriteFile(base, data, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	a := h.open()
	defer a.Close()
	h.take(a, 3)
	doc := h.mustSync(a)
	if len(doc.Pushed) != 1 {
		t.Fatalf("%+v", doc)
	}
	list, _, err := a.Snapshots(t.Context(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	for _, s := range list {
		if s.IsValid() == shared[s.Stamp] {
			t.Errorf("%s: valid %t, shares the rotten file: %t", s.Stamp, s.IsValid(), shared[s.Stamp])
		}
		if shared[s.Stamp] {
			told++
		}
	}
	if told == 0 {
		t.Error("no snapshot shared a base file")
	}
	if r := a.Report(t.Context(), time.Now()); !hasCondition(r.Conditions, "damaged") {
		t.Errorf("%+v", r.Conditions)
	}
	h.stamps = h.stamps[3:]
	h.wantWhole(a)
}
