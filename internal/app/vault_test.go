package app

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/snapshot"
)

// publicKey returns the signer that the recovery sheet would name.
func (h *house) publicKey() string {
	h.t.Helper()
	data, err := os.ReadFile(h.path("state/signing_key.pub"))
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func otherSigner(t *testing.T) string {
	t.Helper()
	s, _, err := crypt.LoadOrCreateSigner(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	return s.AuthorizedKey()
}

// Who is believed of a vault that is opened as a configured target.
func TestOpenVaultTarget(t *testing.T) {
	for _, test := range []struct {
		name   string
		signer func(h *shipped) []string
		harm   func(h *shipped)
		pinned bool
		note   string
		kind   failure.Kind
		fails  bool
	}{
		{"as it is", nil, nil, true, "", 0, false},
		{"by the sheet", func(h *shipped) []string { return []string{h.publicKey()} }, nil, true, "", 0, false},
		{"a signer that is no key", func(*shipped) []string { return []string{"no key"} }, nil, false, "",
			failure.Usage, true},
		{"the state is lost", nil, func(h *shipped) { h.remove("state/targets") }, false, "the vault's own word", 0,
			false},
		{"the key is lost", nil, func(h *shipped) { h.remove("state/signing_key", "state/signing_key.pub") }, true,
			"is lost", 0, false},
		{"vault.json is lost, and the sheet is there", func(h *shipped) []string { return []string{h.publicKey()} },
			func(h *shipped) { h.remove("vault/vault.json") }, true, "vault.json is missing or damaged", 0, false},
		{"vault.json is lost", nil, func(h *shipped) { h.remove("vault/vault.json") }, true,
			"vault.json is missing or damaged", 0, false},
		{"vault.json is damaged", nil, func(h *shipped) { h.write("vault/vault.json", "{") }, true,
			"vault.json is missing or damaged", 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newShipped(t, "")
			a := h.open()
			defer a.Close()
			var signers []string
			if test.signer != nil {
				signers = test.signer(h)
			}
			if test.harm != nil {
				test.harm(h)
			}
			v, err := a.OpenVaultTarget(t.Context(), a.Config.Offsite[0], signers)
			if test.fails {
				if failure.KindOf(err) != test.kind || !strings.HasPrefix(err.Error(), "target disk: ") {
					t.Errorf("%v (kind %d)", err, failure.KindOf(err))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			notes := strings.Join(v.Notes, "\n")
			if v.Pinned != test.pinned || !v.IsTarget() || v.Name != "disk" || (notes == "") != (test.note == "") ||
				!strings.Contains(notes, test.note) {
				t.Errorf("pinned %v, notes %q", v.Pinned, notes)
			}
			if list, _, err := v.ListVerified(t.Context(), v.Signers); err != nil || len(list) != 3 {
				t.Errorf("%d snapshots, %v", len(list), err)
			}
		})
	}
}

// A vault in a directory, opened by whoever has the recovery sheet.
func TestOpenVaultDir(t *testing.T) {
	t.Parallel()
	h := newShipped(t, "")
	identities, err := crypt.LoadIdentities(h.key)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, path string
		signers    []string
		kind       failure.Kind
	}{
		{"no such directory", h.path("none"), nil, failure.NotFound},
		{"no vault", h.path("data"), nil, failure.NotFound},
		{"a signer that is no key", h.path("vault"), []string{"no key"}, failure.Usage},
	} {
		if _, err := OpenVaultDir(t.Context(), test.path, test.signers); failure.KindOf(err) != test.kind {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	v, err := OpenVaultDir(t.Context(), h.path("vault"), []string{h.publicKey()})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if v.IsTarget() || !v.Pinned || len(v.Notes) != 0 {
		t.Errorf("%+v", v)
	}
	list, _, err := v.ListVerified(t.Context(), v.Signers)
	if err != nil || len(list) != 3 {
		t.Fatalf("%v, %v", list, err)
	}
	who, err := v.WhoCanOpen(t.Context(), list, identities)
	if err != nil || len(who) != 3 || len(who[list[0].Push]) != 1 || !strings.HasPrefix(who[list[0].Push][0], "age1") {
		t.Errorf("who can open: %v, %v", who, err)
	}
	stranger, err := OpenVaultDir(t.Context(), h.path("vault"), []string{otherSigner(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if list, _, _ := stranger.ListVerified(t.Context(), stranger.Signers); len(list) != 0 {
		t.Errorf("what another has signed is believed: %v", list)
	}
}

// What a reader does with a vault: bring back, look inside, take one file out.
func TestVaultReads(t *testing.T) {
	t.Parallel()
	h := newShipped(t, "")
	a := h.open()
	defer a.Close()
	identities, err := a.Identities(h.key)
	if err != nil {
		t.Fatal(err)
	}
	v, err := a.OpenVaultTarget(t.Context(), a.Config.Offsite[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	newest := h.stamps[2]
	stored, files, err := v.Files(t.Context(), "latest", identities)
	if err != nil || stored.Stamp != newest ||
		!slices.ContainsFunc(files, func(f offsite.FileEntry) bool { return f.Path == snapshot.DBFile }) {
		t.Errorf("%+v, %v", stored, err)
	}
	want, err := os.ReadFile(h.path("backups/snapshots/" + string(h.stamps[0]) + "/" + snapshot.DBFile))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if stored, err = v.Dump(t.Context(), string(h.stamps[0]), snapshot.DBFile, identities, &out); err != nil ||
		!bytes.Equal(out.Bytes(), want) || stored.Stamp != h.stamps[0] {
		t.Errorf("%d bytes of %d, %v", out.Len(), len(want), err)
	}
	for _, test := range []struct{ name, what string }{{"20200101T000000Z", snapshot.DBFile}, {"latest", "none"}} {
		out.Reset()
		if _, err := v.Dump(t.Context(), test.name, test.what, identities, &out); err == nil || out.Len() > 0 {
			t.Errorf("%v: %d bytes, %v", test, out.Len(), err)
		}
	}
	if _, _, err := v.Files(t.Context(), "20200101T000000Z", identities); failure.KindOf(err) != failure.NotFound {
		t.Errorf("%v", err)
	}
	wrong := h.path("wrong.txt")
	if _, err := crypt.WriteIdentity(wrong); err != nil {
		t.Fatal(err)
	}
	if other, err := a.Identities(wrong); err != nil {
		t.Fatal(err)
	} else if _, _, err := v.Files(t.Context(), "latest", other); err == nil {
		t.Error("another key opens it")
	}
}

// Nothing of a snapshot is laid out in the vault itself, by whatever name.
func TestRefuseInside(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"vault/packs", "elsewhere"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"link": "vault", "vault/out": "../elsewhere"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for dest, refused := range map[string]bool{
		"vault":                true,
		"vault/new":            true,
		"vault/packs/a/b":      true,
		"link":                 true,
		"link/new":             true,
		"elsewhere/../vault/x": true,
		"vault/out":            false,
		"vault/out/new":        false,
		"elsewhere":            false,
		"vault2":               false,
		"new/below":            false,
		"..vault":              false,
	} {
		for _, at := range []string{"vault", "link"} {
			v := &Vault{dir: filepath.Join(dir, at)}
			err := v.refuseInside(filepath.Join(dir, "elsewhere") + "/../" + dest)
			if (failure.KindOf(err) == failure.Refused) != refused || (err != nil) != refused {
				t.Errorf("%s of %s: %v", dest, at, err)
			}
		}
	}
	if err := (&Vault{}).refuseInside(dir); err != nil {
		t.Errorf("a vault that lies elsewhere: %v", err)
	}
	if err := (&Vault{dir: filepath.Join(dir, "gone")}).refuseInside(dir); err == nil {
		t.Error("a vault that is gone")
	}
}

// A drill from the vault: what passes, what does not, and what is left.
func TestVaultDrill(t *testing.T) {
	t.Parallel()
	h := newShipped(t, "")
	identities, err := crypt.LoadIdentities(h.key)
	if err != nil {
		t.Fatal(err)
	}
	v, err := OpenVaultDir(t.Context(), h.path("vault"), []string{h.publicKey()})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	scratch := t.TempDir()
	for _, test := range []struct {
		name, of, query string
		kind            failure.Kind
		passed          bool
	}{
		{"the newest", "latest", "SELECT count(*) = 4 FROM t", 0, true},
		{"by its stamp", string(h.stamps[0]), "SELECT count(*) = 2 FROM t", 0, true},
		{"a question whose answer is no", "latest", "SELECT count(*) > 99 FROM t", failure.Invalid, false},
		{"a stamp that is not there", "20200101T000000Z", "SELECT 1", failure.NotFound, false},
	} {
		result, err := v.Drill(t.Context(), test.of, identities, scratch, []string{test.query}, "test", nil)
		if failure.KindOf(err) != test.kind || result.Passed != test.passed {
			t.Errorf("%s: %+v, %v", test.name, result, err)
		}
		if _, timed := result.DurationsMS["pull"]; test.passed && !timed {
			t.Errorf("%s: how long the pull took is missing: %v", test.name, result.DurationsMS)
		}
		if left, err := os.ReadDir(scratch); err != nil || len(left) != 0 {
			t.Errorf("%s: left in scratch: %v, %v", test.name, left, err)
		}
	}
	// Damage that it stumbles over is left as a report for the host.
	for _, name := range []string{"oldest packs/*.age", "newest packs/*.age"} {
		if err := harms["flipped"](h.path("vault/" + h.objects()[name])); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := v.Drill(t.Context(), "latest", identities, scratch, nil, "test", nil); failure.KindOf(err) !=
		failure.Invalid {
		t.Errorf("%v", err)
	}
	if reports, err := filepath.Glob(h.path("vault/reports/*")); err != nil || len(reports) != 1 {
		t.Errorf("%q, %v", reports, err)
	}
}
