package app

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/restore"
	"github.com/atocore/atobackupd/snapshot"
)

// readers are those who need a snapshot of a vault, each with its key.
var readers = map[string]func(t *testing.T, a *App, v *Vault, stamp string, key crypt.Identities) error{
	"restore --from": func(t *testing.T, a *App, _ *Vault, stamp string, _ crypt.Identities) error {
		_, err := a.fetchForRestore(t.Context(), RestoreRequest{Name: stamp, From: "disk",
			Identity: filepath.Join(filepath.Dir(a.Config.StateDir), "key.txt")}, new(restore.Request))
		return err
	},
	"vault restore": func(t *testing.T, _ *App, v *Vault, stamp string, key crypt.Identities) error {
		_, _, err := v.Restore(t.Context(), stamp, key, filepath.Join(t.TempDir(), "to"), false, nil)
		return err
	},
	"vault drill": func(t *testing.T, _ *App, v *Vault, stamp string, key crypt.Identities) error {
		_, err := v.Drill(t.Context(), stamp, key, t.TempDir(), nil, "test", nil)
		return err
	},
	"vault dump": func(t *testing.T, _ *App, v *Vault, stamp string, key crypt.Identities) error {
		_, err := v.Dump(t.Context(), stamp, snapshot.DBFile, key, io.Discard)
		return err
	},
	"vault ls": func(t *testing.T, _ *App, v *Vault, stamp string, key crypt.Identities) error {
		_, _, err := v.Files(t.Context(), stamp, key)
		return err
	},
}

// rots are the ways in which an object ceases to be what was signed. The first bytes
// are those that a decrypter or a parser stumbles over before any digest is done.
var rots = map[string]func(path string) error{
	"first bytes": func(path string) error {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt([]byte{1}, 5)
		return errors.Join(err, f.Close())
	},
	"emptied":     func(path string) error { return os.Truncate(path, 0) },
	"gone":        os.Remove,
	"a directory": func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
	"a pipe":      func(path string) error { return errors.Join(os.Remove(path), unix.Mkfifo(path, 0o600)) },
	"a link": func(path string) error {
		return errors.Join(os.Rename(path, path+".aside"), os.Symlink(filepath.Base(path)+".aside", path))
	},
}

// Whatever is wrong with an object of a vault, each reader of it says that the
// object is damaged, and what to do; a reader of a target's keeps it as a finding.
func TestReadersFindDamage(t *testing.T) {
	for _, kind := range []string{"packs/*.age", "snapshots/*.manifest.age", "snapshots/*.json",
		"snapshots/*.SHA256SUMS", "snapshots/*.SHA256SUMS.sig"} {
		for how, rot := range rots {
			if strings.HasSuffix(kind, ".sig") && how != "first bytes" && how != "emptied" {
				continue // without a signature there is no snapshot: a verify misses it
			}
			t.Run(kind+" "+how, func(t *testing.T) {
				t.Parallel()
				h := newShipped(t, "")
				name := h.objects()["newest "+kind]
				if err := rot(h.path("vault/" + name)); err != nil {
					t.Fatal(err)
				}
				for reader, read := range readers {
					if reader != "vault ls" || kind != "packs/*.age" { // it needs none
						h.wantFound(reader, name, read)
					}
				}
			})
		}
	}
}

// A snapshot whose signature is no plain file any more is missed on the second
// machine too, which knows of none but those that lie there.
func TestCheckMissesASignature(t *testing.T) {
	for how, rot := range rots {
		if how == "first bytes" || how == "emptied" {
			continue
		}
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			h := newShipped(t, "")
			name := h.objects()["newest snapshots/*.SHA256SUMS.sig"]
			if err := rot(h.path("vault/" + name)); err != nil {
				t.Fatal(err)
			}
			v, err := OpenVaultDir(t.Context(), h.path("vault"), []string{h.publicKey()})
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			doc, err := v.Check(t.Context(), VerifyBounds{Fraction: 1}, "test", nil)
			if failure.KindOf(err) != failure.Invalid || len(doc.Findings) != 1 || doc.Findings[0].Object != name {
				t.Errorf("%v, %+v", err, doc.Findings)
			}
		})
	}
}

// wantFound lets one reader find what is wrong with an object, at the target and in
// the directory.
func (h *shipped) wantFound(reader, name string,
	read func(t *testing.T, a *App, v *Vault, stamp string, key crypt.Identities) error) {
	h.t.Helper()
	h.remove("state/targets/disk/checks.json")
	a := h.open()
	defer a.Close()
	identities, err := a.Identities(h.key)
	if err != nil {
		h.t.Fatal(err)
	}
	v, err := a.OpenVaultTarget(h.t.Context(), a.Config.Offsite[0], nil)
	if err != nil {
		h.t.Fatal(err)
	}
	defer v.Close()
	stamp := h.stamps[len(h.stamps)-1]
	err = read(h.t, a, v, string(stamp), identities)
	if failure.KindOf(err) != failure.Invalid || failure.HintOf(err) == "" || !strings.Contains(err.Error(), name) {
		h.t.Errorf("%s: %v (hint %q)", reader, err, failure.HintOf(err))
	}
	checks, err := offsite.LoadChecks(a.Config.StateDir, "disk")
	if err != nil || len(checks.Findings) != 1 || strings.TrimSuffix(checks.Findings[0].Object, ".sig") !=
		strings.TrimSuffix(name, ".sig") || !slices.Equal(checks.Findings[0].Stamps, []snapshot.Stamp{stamp}) {
		h.t.Errorf("%s: kept %+v, %v", reader, checks.Findings, err)
	}
}
