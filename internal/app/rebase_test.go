package app

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/snapshot"
)

// After the recipients were exchanged, a rebase seals everything to the new key
// that is needed, and the old key nothing that is sent from then on.
func TestRebaseVault(t *testing.T) {
	h := newHouse(t, "")
	newKey := h.path("new.txt")
	newRecipient, err := crypt.WriteIdentity(newKey)
	if err != nil {
		t.Fatal(err)
	}
	oldKey := h.path("old.txt")
	oldRecipient, err := crypt.WriteIdentity(oldKey)
	if err != nil {
		t.Fatal(err)
	}
	h.rotate(oldRecipient)

	a := h.open()
	if _, err := a.RebaseVault(t.Context(), a.Config.Offsite[0]); failure.KindOf(err) != failure.NotFound {
		t.Errorf("without a snapshot: %v", err)
	}
	if _, err := a.Backup(t.Context(), snapshot.Daily, false, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Sync(t.Context(), "", false); err != nil {
		t.Fatal(err)
	}
	h.wantOpens(a, oldKey, true)
	h.wantOpens(a, newKey, false)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}

	h.rotate(newRecipient)
	a = h.open()
	defer a.Close()
	pushed, err := a.RebaseVault(t.Context(), a.Config.Offsite[0])
	if err != nil || len(pushed) != 1 || !pushed[0].Base || pushed[0].Packs == 0 {
		t.Fatalf("%+v, %v", pushed, err)
	}
	h.wantOpens(a, newKey, true)
	h.wantOpens(a, oldKey, false)

	// What follows goes on from the new base.
	if _, err := a.Backup(t.Context(), snapshot.Daily, false, time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	synced, err := a.Sync(t.Context(), "", false)
	if err != nil || len(synced) != 1 || len(synced[0].Pushed) != 1 || synced[0].Pushed[0].Base {
		t.Fatalf("%+v, %v", synced, err)
	}
	h.wantOpens(a, newKey, true)
	h.wantOpens(a, oldKey, false)
}

// rotate exchanges the recipients in the configuration.
func (h *house) rotate(recipient string) {
	h.t.Helper()
	text, err := os.ReadFile(h.path("config.toml"))
	if err != nil {
		h.t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "recipients = ") {
			lines[i] = `recipients = ["` + recipient + `"]`
		}
	}
	h.write("config.toml", strings.Join(lines, "\n"))
}

// wantOpens fetches the newest snapshot of the vault with a key, or fails to.
func (h *house) wantOpens(a *App, key string, want bool) {
	h.t.Helper()
	v, err := a.OpenVaultTarget(h.t.Context(), a.Config.Offsite[0], nil)
	if err != nil {
		h.t.Fatal(err)
	}
	defer v.Close()
	identities, err := a.Identities(key)
	if err != nil {
		h.t.Fatal(err)
	}
	_, _, err = v.Restore(h.t.Context(), "latest", identities, h.t.TempDir(), false, nil)
	var f *failure.Error
	if want != (err == nil) || err != nil && !errors.As(err, &f) {
		h.t.Errorf("%s: %v", key, err)
	}
}
