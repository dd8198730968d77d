package app

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/snapshot"
)

// Continued says what a new machine has taken over from a vault.
type Continued struct {
	Target    string           `json:"target"`
	VaultID   string           `json:"vault_id"`
	Snapshots []snapshot.Stamp `json:"snapshots"` // that are here now, ready to be restored
}

// Continue takes up a vault on a new machine: it brings the newest full snapshot
// and then the newest back into the backup directory, and rebuilds from them what
// this machine must know of the target, so that the next push goes on where the
// old machine stopped. v is the vault as it was opened to unseal the host document,
// by whatever way there was to it. The run is the first that the new machine's history
// knows, which so is none that was started over.
func (a *App) Continue(ctx context.Context, v *Vault, target string,
	identities crypt.Identities) (doc Continued, err error) {
	err = a.runJob(ctx, "bootstrap", "", history.Run{}, func(*jobRun) (err error) {
		doc, err = a.takeUp(ctx, v, target, identities)
		return err
	})
	return doc, err
}

func (a *App) takeUp(ctx context.Context, v *Vault, target string,
	identities crypt.Identities) (doc Continued, err error) {
	doc = Continued{Target: target, VaultID: v.Info.ID, Snapshots: []snapshot.Stamp{}}
	t, err := a.Target(target)
	if err != nil {
		return doc, err
	}
	recipients, err := a.recipients()
	if err != nil {
		return doc, err
	}
	lock, err := a.Lock(ctx, "taking up the vault of "+t.Name)
	if err != nil {
		return doc, err
	}
	defer lock.Unlock()
	targetLock, err := a.lockTarget(ctx, t.Name, "bootstrap")
	if err != nil {
		return doc, err
	}
	defer targetLock.Unlock()
	state, err := offsite.LoadState(a.Config.StateDir, t.Name)
	if err != nil {
		return doc, err
	}
	if state.VaultID != "" && state.VaultID != v.Info.ID {
		return doc, offsite.OtherVault(state, v.Info.ID)
	}
	look, err := v.Survey(ctx, v.Signers)
	if err != nil {
		return doc, err
	}
	rebuild := offsite.RebuildOptions{StateDir: offsite.StateDir(a.Config.StateDir, t.Name),
		BaseDir: filepath.Join(a.Config.Backup.Dir, "base", t.Name), Recipients: recipients}
	pull := offsite.PullOptions{
		Identities: identities, Signers: v.Signers, Progress: fsx.Progress(a.progress).Prefix(t.Name),
		Owners: a.Owners(),
	}
	for _, s := range look.NewestFullAndNewest(time.Now()) {
		dir, err := a.fetchSnapshot(ctx, v, s, pull)
		if err != nil {
			return doc, err
		}
		if err := v.Rebuild(ctx, s, dir, pull, rebuild); err != nil {
			return doc, err
		}
		doc.Snapshots = append(doc.Snapshots, s.Stamp)
	}
	if len(doc.Snapshots) == 0 {
		return doc, &failure.Error{Op: "bootstrap", Subject: v.Info.ID, Kind: failure.NotFound,
			Err: errors.New("the vault holds no snapshot that counts")}
	}
	signer, err := a.loadSigner()
	if err != nil {
		return doc, err
	}
	return doc, state.TakeUp(v.Info.ID, signer.AuthorizedKey(), look)
}

// fetchSnapshot brings a snapshot of a vault into snapshots/, where it is not there
// yet, and returns its directory.
func (a *App) fetchSnapshot(ctx context.Context, v *Vault, s offsite.Stored,
	o offsite.PullOptions) (dir string, err error) {
	final := filepath.Join(a.store.Dir(), "snapshots", string(s.Stamp))
	if _, err := os.Lstat(final); err == nil {
		return final, nil
	}
	work, err := a.store.Scratch("bootstrap")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	if err := v.Pull(ctx, s, filepath.Join(work, "snapshot"), o); err != nil {
		return "", err
	}
	return final, fsx.Rename(filepath.Join(work, "snapshot"), final)
}
