package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/offsite/dir"
	"github.com/atocore/atobackupd/restore"
	"github.com/atocore/atobackupd/retention"
)

// Vault is an open vault: a configured target's, or one that lies in a directory
// of this machine.
type Vault struct {
	*offsite.Vault
	Name    string        // the target's name or the directory
	Signers crypt.Signers // the public keys of which one must have signed its snapshots
	Pinned  bool          // Signers are known from elsewhere than the vault itself
	Notes   []string      // what whoever opened it should know

	remote offsite.Remote
	dir    string          // where it lies on this machine; "" elsewhere
	app    *App            // of the target
	target *config.Target  // nil: a directory
	state  *offsite.State  // of the target
	checks *offsite.Checks // of the target
	signer *crypt.Signer   // to write with; nil for a reader
	mended []string        // findings that ended when it was opened to write
}

// Close ends the connection.
func (v *Vault) Close() error { return v.remote.Close() }

// owners returns those whose links in a path of this machine are followed.
func (v *Vault) owners() tree.Owners {
	if v.app == nil {
		return tree.Trusted("")
	}
	return v.app.Owners()
}

// IsTarget reports whether it is the vault of a configured target.
func (v *Vault) IsTarget() bool { return v.target != nil }

// OpenVaultDir opens the vault in a directory, with no configuration. signers are
// the keys from the recovery sheet; without one the reader's own list counts, and
// the key that the vault names is pinned at first use.
func OpenVaultDir(ctx context.Context, path string, signers []string) (*Vault, error) {
	remote, err := dir.Open(path, tree.Trusted(""))
	if err != nil {
		return nil, err
	}
	v, err := openReader(ctx, remote, path, signers)
	if err != nil {
		remote.Close()
		return nil, err
	}
	v.dir = path
	if v.Pinned {
		return v, nil
	}
	known, err := ReaderSigners(v.Info.ID)
	switch {
	case err != nil:
		remote.Close()
		return nil, err
	case len(known) > 0:
		v.Signers, v.Pinned = known, true
	case AddReaderSigner(v.Info.ID, v.Info.Signer) == nil:
		v.Notes = append(v.Notes, "the signer "+v.Info.Signer+
			" is the vault's own word, and is believed from now on; compare it with the recovery sheet")
	default:
		v.Notes = append(v.Notes, "the signer is the vault's own word; to prove who wrote it give --signer from the "+
			"recovery sheet")
	}
	return v, nil
}

// OpenVaultTarget opens a configured target's vault for reading. signers come from
// the recovery sheet; without them those count that this machine is pinned to, also
// when it has lost the key itself. Nothing is made.
func (a *App) OpenVaultTarget(ctx context.Context, t config.Target, signers []string) (*Vault, error) {
	state, err := offsite.LoadState(a.Config.StateDir, t.Name)
	if err != nil {
		return nil, err
	}
	checks, err := offsite.LoadChecks(a.Config.StateDir, t.Name)
	if err != nil {
		return nil, err
	}
	own := ""
	key, keyErr := a.loadSigner()
	if keyErr == nil {
		own = key.AuthorizedKey()
	}
	remote, err := a.dial(ctx, t, true)
	if failure.KindOf(err) == failure.NotFound && state.VaultID == "" {
		err = noVaultYet(err)
	}
	if err != nil {
		return nil, withTarget(t.Name, err)
	}
	pinned := state.Signers(own)
	v, err := openReader(ctx, remote, t.Name, signers)
	if isDamagedName(err) && state.VaultID != "" && len(pinned) > 0 {
		v, err = openUnnamed(ctx, remote, t.Name, state.VaultID, pinned, err)
	}
	if errors.Is(err, offsite.ErrNoVault) && state.VaultID == "" {
		err = noVaultYet(err)
	}
	if err != nil {
		remote.Close()
		return nil, withTarget(t.Name, err)
	}
	v.app, v.target, v.state, v.checks = a, &t, state, checks
	if t.Type == "dir" {
		v.dir = t.Path
	}
	if v.Pinned {
		return v, nil
	}
	if state.VaultID == v.Info.ID && len(pinned) > 0 {
		v.Signers, v.Pinned = pinned, true
	}
	switch lost := errors.Is(keyErr, fs.ErrNotExist); {
	case lost && state.VaultID != "":
		v.Notes = append(v.Notes, a.signerLost(t.Name, state).Error())
	case !v.Pinned:
		v.Notes = append(v.Notes, "the signer is the vault's own word; to prove who wrote it give --signer from the "+
			"recovery sheet")
	}
	return v, nil
}

// noVaultYet is the error of reading a target that nothing was sent to.
func noVaultYet(err error) error {
	var f *failure.Error
	subject := ""
	if errors.As(err, &f) {
		subject = f.Subject
	}
	return &failure.Error{Op: "vault", Subject: subject, Kind: failure.NotFound,
		Err: errors.New("there is no vault there yet"), Hint: "the first sync makes it"}
}

// OpenVaultRemote opens the vault that lies on a remote, for a machine that knows
// nothing of it yet. The caller closes it.
func OpenVaultRemote(ctx context.Context, remote offsite.Remote, name string, signers []string) (*Vault, error) {
	v, err := openReader(ctx, remote, name, signers)
	if err == nil && !v.Pinned {
		v.Notes = append(v.Notes, "the signer is the vault's own word; to prove who wrote it give --signer from the "+
			"recovery sheet")
	}
	return v, err
}

// openReader opens a vault for reading. A vault.json that is damaged keeps nobody
// out who knows the signer.
func openReader(ctx context.Context, remote offsite.Remote, name string, keys []string) (*Vault, error) {
	signers, err := crypt.ParseSigners(keys)
	if err != nil {
		return nil, &failure.Error{Op: "vault", Subject: "--signer", Kind: failure.Usage, Err: err}
	}
	vault, err := offsite.OpenVault(ctx, remote)
	v := &Vault{Vault: vault, Name: name, Signers: signers, Pinned: len(signers) > 0, remote: remote}
	if errors.Is(err, offsite.ErrNoVault) {
		err = &failure.Error{Op: "vault", Subject: name, Kind: failure.NotFound, Err: err,
			Hint: "is this the vault's own directory, and is its disk mounted? where only vault.json is lost, give " +
				"--signer"}
	}
	switch {
	case err == nil && !v.Pinned:
		v.Signers = crypt.Signers{vault.Info.Signer}
	case err == nil:
	case isDamagedName(err) && v.Pinned:
		return openUnnamed(ctx, remote, name, "", signers, err)
	case errors.Is(err, offsite.ErrNoVault):
		return nil, err
	default:
		return nil, fmt.Errorf("%w; with --signer from the recovery sheet it can be read all the same", err)
	}
	return v, nil
}

// isDamagedName reports whether a vault could not be opened for its vault.json.
func isDamagedName(err error) bool {
	return errors.Is(err, offsite.ErrNoVault) || failure.KindOf(err) == failure.VaultMismatch
}

// openUnnamed opens a vault without its vault.json, by signers that are known from
// elsewhere; cause is what is wrong with vault.json.
func openUnnamed(ctx context.Context, remote offsite.Remote, name, id string, signers crypt.Signers,
	cause error) (*Vault, error) {
	vault, err := offsite.OpenUnnamed(ctx, remote, id, cause)
	if failure.KindOf(err) == failure.NotFound {
		return nil, cause // the whole vault is not there
	}
	if err != nil {
		return nil, err
	}
	return &Vault{Vault: vault, Name: name, Signers: signers, Pinned: true, remote: remote,
		Notes: []string{"vault.json is missing or damaged; going on, for the signer is known: where it is missing, " +
			"`atobackupd vault init` on the host writes it anew"}}, nil
}

// Restore fetches one snapshot, by stamp, push or "latest", into a directory; uncached
// where this process does not read it afterwards. What it finds damaged in a
// configured target's vault is kept.
func (v *Vault) Restore(ctx context.Context, name string, identities crypt.Identities, dest string, uncached bool,
	progress fsx.Progress) (stored offsite.Stored, warnings []string, err error) {
	stored, warnings, err = v.fetch(ctx, name, identities, dest, uncached, progress)
	v.keepDamage(err, stored, "restore")
	return stored, warnings, err
}

func (v *Vault) fetch(ctx context.Context, name string, identities crypt.Identities, dest string, uncached bool,
	progress fsx.Progress) (stored offsite.Stored, warnings []string, err error) {
	if err := v.refuseInside(dest); err != nil {
		return stored, nil, err
	}
	stored, warnings, err = v.Find(ctx, name, v.Signers)
	if err != nil {
		return stored, warnings, err
	}
	return stored, warnings, v.Pull(ctx, stored, dest, offsite.PullOptions{
		Identities: identities, Signers: v.Signers,
		Progress: progress.Prefix(v.Name), Owners: v.owners(), Uncached: uncached,
	})
}

// refuseInside refuses a destination in the vault itself: nothing of a snapshot
// lies there in the clear.
func (v *Vault) refuseInside(dest string) error {
	if v.dir == "" {
		return nil
	}
	vault, err := filepath.EvalSymlinks(v.dir)
	if err != nil {
		return err
	}
	existing, err := filepath.Abs(dest)
	if err != nil {
		return err
	}
	for {
		found, err := filepath.EvalSymlinks(existing)
		if err == nil {
			existing = found
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		existing = filepath.Dir(existing)
	}
	if rel, err := filepath.Rel(vault, existing); err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return nil
	}
	return &failure.Error{Op: "vault restore", Subject: dest, Kind: failure.Refused,
		Err: errors.New("it is inside the vault, where nothing lies in the clear"), Hint: "name a directory elsewhere"}
}

// Files returns the proven files of one snapshot.
func (v *Vault) Files(ctx context.Context, name string,
	identities crypt.Identities) (stored offsite.Stored, files []offsite.FileEntry, err error) {
	stored, _, err = v.Find(ctx, name, v.Signers)
	defer func() { v.keepDamage(err, stored, "ls") }()
	if err != nil {
		return stored, nil, err
	}
	files, err = v.Vault.Files(ctx, stored, offsite.PullOptions{Identities: identities, Signers: v.Signers})
	return stored, files, err
}

// Dump writes one file of a snapshot, reading only the packs that it needs.
func (v *Vault) Dump(ctx context.Context, name, path string, identities crypt.Identities,
	out io.Writer) (offsite.Stored, error) {
	stored, _, err := v.Find(ctx, name, v.Signers)
	if err == nil {
		err = v.Vault.Dump(ctx, stored, path, out, offsite.PullOptions{Identities: identities, Signers: v.Signers})
	}
	v.keepDamage(err, stored, "dump")
	return stored, err
}

// ownPolicy returns the retention that the vault is pruned by here: the
// configuration's for a target, the vault's own in a directory.
func (v *Vault) ownPolicy() (retention.Policy, error) {
	if v.target != nil {
		return v.app.Policy(v.target.Retention), nil
	}
	if err := v.Info.Retention.Check(); err != nil {
		return retention.Policy{}, &failure.Error{
			Op: "vault", Subject: "vault.json", Kind: failure.Invalid, Err: err,
			Hint: "set another there: atobackupd vault policy --dir DIR",
		}
	}
	return v.Info.Retention, nil
}

// WhoCanOpen returns, of each snapshot, the recipients that its host recorded in
// its manifest, as far as the identity opens it.
func (v *Vault) WhoCanOpen(ctx context.Context, list []offsite.Stored,
	identities crypt.Identities) (map[offsite.PushID][]string, error) {
	who := make(map[offsite.PushID][]string)
	for _, s := range list {
		recipients, err := v.Recipients(ctx, s, v.Signers, identities)
		if kind := failure.KindOf(err); kind == failure.Unreachable || kind == failure.Interrupted {
			return nil, err
		}
		if err == nil {
			who[s.Push] = recipients
		}
	}
	return who, nil
}

// Drill fetches one snapshot, by stamp or "latest", into a scratch directory
// below scratch ("" is the system's for temporary files), holds a restore drill
// with it there, and deletes everything. A drill that does not pass is a result
// and an error of kind Invalid. On the second machine it leaves a report.
func (v *Vault) Drill(ctx context.Context, name string, identities crypt.Identities, scratch string, queries []string,
	version string, progress fsx.Progress) (result restore.DrillResult, err error) {
	start := time.Now()
	work, err := os.MkdirTemp(scratch, "atobackupd-vault-drill-")
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	fetched := filepath.Join(work, "snapshot")
	stored, _, err := v.fetch(ctx, name, identities, fetched, false, progress)
	if failure.KindOf(err) == failure.Invalid {
		v.noteDamage(ctx, err, stored, "drill", version)
	}
	if err != nil {
		return result, err
	}
	pulled := time.Since(start)
	result, err = restore.Drill(ctx, restore.DrillRequest{Dir: fetched, Stamp: stored.Stamp, Scratch: work,
		Queries: queries, Share: true})
	if err != nil {
		return result, err
	}
	result.DurationsMS["pull"] = pulled.Milliseconds()
	result.DurationMS = time.Since(start).Milliseconds()
	return result, drillFailure(result)
}

// noteDamage keeps what a reader found damaged: with the target's checks, or as a
// report in the vault.
func (v *Vault) noteDamage(ctx context.Context, err error, stored offsite.Stored, by, version string) {
	finding, ok := offsite.FindingOf(err, stored)
	if !ok {
		return
	}
	if v.target != nil {
		v.keepDamage(err, stored, by)
		return
	}
	now := time.Now()
	finding.By, finding.Found = by, now.UTC()
	// the same
	_ = v.PutReport(ctx, offsite.Report{At: now.UTC(), What: by, Version: version,
		Findings: []offsite.Finding{finding}})
}

// keepDamage keeps what a reader found damaged in a configured target's vault, for
// the next sync to mend.
func (v *Vault) keepDamage(err error, stored offsite.Stored, by string) {
	if finding, ok := offsite.FindingOf(err, stored); ok && v.target != nil {
		v.checks.Add([]offsite.Finding{finding}, by, time.Now())
		_ = v.checks.Save() // the error itself is what is told
	}
}
