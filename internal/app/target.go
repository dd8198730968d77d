package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/offsite/dir"
	"github.com/atocore/atobackupd/offsite/s3"
	"github.com/atocore/atobackupd/offsite/sftp"
)

// Target finds a configured target; "" means the only one there is.
func (a *App) Target(name string) (config.Target, error) {
	targets := a.Config.Offsite
	var names []string
	for _, t := range targets {
		if t.Name == name {
			return t, nil
		}
		names = append(names, t.Name)
	}
	switch {
	case len(targets) == 0:
		return config.Target{}, &failure.Error{Op: "target", Subject: name, Kind: failure.Usage,
			Err: errors.New("no target is configured"), Hint: "add an [[offsite]] table to " + a.Config.Path}
	case name == "" && len(targets) == 1:
		return targets[0], nil
	case name == "":
		return config.Target{}, &failure.Error{Op: "target", Kind: failure.Usage, Err: errors.New("there are several"),
			Hint: "name one with --target: " + strings.Join(names, ", ")}
	}
	return config.Target{}, &failure.Error{Op: "target", Subject: name, Kind: failure.Usage,
		Err: errors.New("no such target"), Hint: "configured are: " + strings.Join(names, ", ")}
}

// SFTPConfig turns a target's configuration into what package sftp takes.
func SFTPConfig(t config.Target) sftp.Config {
	return sftp.Config{
		Name: t.Name, Hosts: t.Hosts, Port: t.Port, User: t.User, IdentityFile: t.IdentityFile,
		KnownHosts: t.KnownHosts,
		Path:       t.Path, Transport: t.Transport, BandwidthLimit: t.BandwidthLimit.Bytes(), AppendOnly: t.AppendOnly,
		DialTimeout: time.Duration(t.ConnectTimeout),
	}
}

// listFor is how long one listing of a bucket answers for: most syncs and checks
// are over by then.
const listFor = 30 * time.Second

// s3Config turns a target's configuration into what package s3 takes.
func (a *App) s3Config(t config.Target) s3.Config {
	state := offsite.StateDir(a.Config.StateDir, t.Name)
	return s3.Config{
		Name: t.Name, Endpoint: t.Endpoint, Bucket: t.Bucket, Prefix: t.Prefix, Region: t.Region,
		CredentialsFile: t.CredentialsFile,
		LockFor:         t.LockFor.Std(), BandwidthLimit: t.BandwidthLimit.Bytes(),
		DialTimeout: time.Duration(t.ConnectTimeout), OpTimeout: a.Options.TargetSilence,
		StateFile: filepath.Join(state, "s3.json"), ListFor: listFor,
	}
}

// dial connects to a target. A dir target that was never used may be made, unless
// its disk is removable; one that was is not, for its disk may just not be mounted.
func (a *App) dial(ctx context.Context, t config.Target, known bool) (offsite.Remote, error) {
	switch {
	case t.Type == "sftp":
		c := SFTPConfig(t)
		c.OpTimeout = a.Options.TargetSilence
		return sftp.Dial(ctx, c)
	case t.Type == "s3":
		return s3.Open(ctx, a.s3Config(t))
	}
	state, err := offsite.LoadState(a.Config.StateDir, t.Name)
	switch {
	case err != nil:
		return nil, err
	case t.Removable:
		return dir.OpenRemovable(t.Path, known && state.VaultID != "", !known, a.Owners())
	case !known:
		return dir.Create(t.Path, a.Owners())
	}
	remote, err := dir.Open(t.Path, a.Owners())
	switch {
	case failure.KindOf(err) == failure.NotFound && state.VaultID != "":
		return nil, hintAway(t, offsite.MissingVault(state))
	case err != nil && state.VaultID != "" && !errors.Is(err, fs.ErrPermission) && ctx.Err() == nil:
		return nil, hintAway(t, offsite.NoPlace(state, err))
	case err != nil:
		return nil, err
	}
	return remote, nil
}

// openTarget connects to a target and opens the vault that is pinned for it, to
// write there: it makes the vault where there is none yet. repin accepts what is
// there instead, also with a new signing key in the place of one that was lost.
func (a *App) openTarget(ctx context.Context, t config.Target, repin bool) (v *Vault, err error) {
	v = &Vault{Name: t.Name, app: a, target: &t, Pinned: true}
	if v.state, err = offsite.LoadState(a.Config.StateDir, t.Name); err != nil {
		return nil, err
	}
	if v.checks, err = offsite.LoadChecks(a.Config.StateDir, t.Name); err != nil {
		return nil, err
	}
	v.signer, err = a.Signer()
	if _, missing := a.loadSigner(); repin && errors.Is(missing, fs.ErrNotExist) {
		v.signer, err = a.makeSigner()
	}
	if err != nil {
		return nil, err
	}
	if v.remote, err = a.dial(ctx, t, v.state.VaultID != "" && !repin); err != nil {
		return nil, err
	}
	if bucket, ok := v.remote.(*s3.Remote); ok {
		bucket.KeepDocuments(filepath.Join(offsite.StateDir(a.Config.StateDir, t.Name), "documents"))
	}
	create := offsite.VaultInfo{
		Created: time.Now().UTC().Truncate(time.Second), Host: a.Options.Host, Signer: v.signer.AuthorizedKey(),
		Retention: a.Policy(t.Retention),
	}
	if v.Vault, err = a.openPinned(ctx, v, create, repin); err != nil {
		v.remote.Close()
		return nil, hintAway(t, err)
	}
	v.Signers = v.state.Signers(v.signer.AuthorizedKey())
	for _, f := range v.checks.Damaged() {
		if f.Object == "vault.json" { // it was read, or written anew, just now
			v.mended = append(v.mended, f.String())
			v.checks.Clean(f.Object, 0, time.Now())
		}
	}
	return v, nil
}

// pinPatience is how long a target waits for another one that is being pinned.
const pinPatience = time.Minute

// openPinned opens the vault of a target. Two targets that are one place, by a link or
// a host of two names, would be one copy that looks like two: so one is pinned after
// the other, and whoever comes second finds the first one's vault.
func (a *App) openPinned(ctx context.Context, v *Vault, create offsite.VaultInfo, repin bool) (*offsite.Vault, error) {
	if v.state.VaultID == "" || repin {
		path := filepath.Join(a.Config.StateDir, "pin.lock")
		lock, err := fsx.LockFile(ctx, path, "pinning "+v.Name, pinPatience, nil)
		if err != nil {
			return nil, err
		}
		defer lock.Unlock()
		if found, err := offsite.OpenVault(ctx, v.remote); err == nil {
			if err := a.onlyHolder(v.Name, v.state, found.Info.ID); err != nil {
				return nil, err
			}
		} // what else may be wrong with it, the next look tells
	}
	vault, err := offsite.OpenPinned(ctx, v.remote, v.state, create, repin)
	if err != nil {
		return nil, err
	}
	return vault, a.onlyHolder(v.Name, v.state, vault.Info.ID)
}

// onlyHolder refuses a vault that another target is pinned to. Of two that both are, by
// an older version, the first one of the configuration keeps it.
func (a *App) onlyHolder(target string, state *offsite.State, vaultID string) error {
	earlier := true
	for _, t := range a.Config.Offsite {
		if t.Name == target {
			earlier = false
			continue
		}
		other, err := offsite.LoadState(a.Config.StateDir, t.Name)
		if err == nil && vaultID != "" && other.VaultID == vaultID && (earlier || state.VaultID != vaultID) {
			return &failure.Error{Op: "vault", Subject: "vault.json", Kind: failure.VaultMismatch,
				Err: fmt.Errorf("the target %s is pinned to this same vault, %s: two names of one copy are one copy", t.Name,
					vaultID),
				Hint: "remove one of the two targets, or give it an empty place of its own, where a copy of a vault is " +
					"not either"}
		}
	}
	return nil
}

// hintAway says what to do about a vault that is not where it was, by where it should
// be.
func hintAway(t config.Target, err error) error {
	var f *failure.Error
	if !errors.Is(err, offsite.ErrVaultAway) || !errors.As(err, &f) {
		return err
	}
	hinted := *f
	switch look := "atobackupd target test " + t.Name; t.Type {
	case "dir":
		hinted.Subject, hinted.Hint = t.Path, f.Hint+" `mount -a`"
	case "s3":
		hinted.Hint = "is it the right bucket and prefix, and who emptied it? " + look
	default:
		hinted.Hint = f.Hint + " mount it on that machine, and then: " + look
	}
	return &hinted
}

// targetError is an error about a target, which it names.
type targetError struct {
	target string
	err    error
}

func (e *targetError) Error() string { return "target " + e.target + ": " + e.err.Error() }
func (e *targetError) Unwrap() error { return e.err }

// withTarget names the target that an error is about, once.
func withTarget(target string, err error) error {
	var named *targetError
	if err == nil || errors.As(err, &named) {
		return err
	}
	return &targetError{target, err}
}

// InitVault accepts the vault that is on a target now, or begins one there.
func (a *App) InitVault(ctx context.Context, t config.Target) (offsite.VaultInfo, error) {
	lock, err := a.lockTarget(ctx, t.Name, "vault init")
	if err != nil {
		return offsite.VaultInfo{}, err
	}
	defer lock.Unlock()
	v, err := a.openTarget(ctx, t, true)
	if err != nil {
		return offsite.VaultInfo{}, withTarget(t.Name, err)
	}
	defer v.Close()
	return v.Info, nil
}

// lockTarget takes a target's lock.
func (a *App) lockTarget(ctx context.Context, target, purpose string) (*fsx.Lock, error) {
	return offsite.LockTarget(ctx, a.Config.StateDir, target, purpose, a.Options.LockTimeout, a.waitingFor(target))
}

func (a *App) waitingFor(target string) func(string) {
	return func(holder string) { a.notice("target " + target + ": waiting for " + holder) }
}

// TestTarget connects to a target, looks for its vault and says what it found. It
// fails where a sync would, and leaves nothing in a place where a sync refuses to.
func (a *App) TestTarget(ctx context.Context, t config.Target) (lines []string, err error) {
	state, err := offsite.LoadState(a.Config.StateDir, t.Name)
	if err != nil {
		return nil, err
	}
	if _, err := a.recipients(); err != nil {
		return nil, withTarget(t.Name, err)
	}
	remote, err := a.dial(ctx, t, true)
	if failure.KindOf(err) == failure.NotFound && state.VaultID == "" && t.Type == "dir" {
		return []string{t.Path + " is not there yet: the first sync makes it"}, nil
	}
	if err != nil {
		return nil, withTarget(t.Name, err)
	}
	defer remote.Close()
	if r, ok := remote.(interface{ Host() string }); ok {
		lines = append(lines, "connected to "+r.Host())
	}
	if r, ok := remote.(interface{ Probe(context.Context) error }); ok {
		if err := r.Probe(ctx); err != nil { // what was found out before may have changed
			return lines, withTarget(t.Name, err)
		}
	}
	free, err := remote.Free(ctx)
	if err != nil {
		return lines, withTarget(t.Name, err)
	}
	if free >= 0 {
		lines = append(lines, humanize.IBytes(uint64(free))+" are free")
	}
	if err := a.checkPinned(ctx, t, state, remote); err != nil {
		return lines, withTarget(t.Name, err)
	}
	v, err := a.lookAt(ctx, t)
	if err != nil {
		return lines, withTarget(t.Name, err)
	}
	if v == nil {
		lines = append(lines, "no vault yet: the first sync makes it")
	} else {
		defer v.Close()
		list, _, err := v.List(ctx)
		if err != nil {
			return lines, withTarget(t.Name, err)
		}
		lines = append(lines, english.Plural(len(list), "snapshot", "")+" in "+v.Info.String())
	}
	stored, err := probe(ctx, remote, t)
	if err != nil {
		return lines, withTarget(t.Name, err)
	}
	lines = append(lines, stored...)
	if late := a.Config.LockWarning(t, LongestGap); late != "" {
		lines = append(lines, late)
	}
	if r, ok := remote.(interface{ Lacks() []string }); ok {
		lines = append(lines, r.Lacks()...)
	}
	return lines, nil
}

// checkPinned fails where a sync would refuse the vault that is there, or what lies in
// its place, and makes nothing: no key and no vault.
func (a *App) checkPinned(ctx context.Context, t config.Target, state *offsite.State, remote offsite.Remote) error {
	own := ""
	switch signer, err := a.loadSigner(); {
	case err == nil:
		own = signer.AuthorizedKey()
	case !errors.Is(err, fs.ErrNotExist):
		return err
	default:
		if err := a.SignerLost(); err != nil {
			return err
		}
	}
	v, err := offsite.CheckPinned(ctx, remote, state, own)
	if err != nil || v == nil {
		return hintAway(t, err)
	}
	return a.onlyHolder(t.Name, state, v.Info.ID)
}

// probe stores an object on a target, reads it back and removes it. It returns what
// is to be said of that.
func probe(ctx context.Context, remote offsite.Remote, t config.Target) (lines []string, err error) {
	lines = []string{"a probe was stored and read back"}
	bucket, ok := remote.(interface {
		TryStore(context.Context) (kept, err error)
	})
	if !ok {
		return lines, offsite.Probe(ctx, remote, !t.AppendOnly)
	}
	kept, err := bucket.TryStore(ctx)
	switch {
	case err != nil:
		return nil, err
	case kept != nil && t.Prune:
		return nil, &failure.Error{Op: "prune", Kind: failure.KindOf(kept), Err: failure.WithoutHint(kept),
			Hint: "let the key delete objects and versions, or set prune = false"}
	case kept != nil:
		lines = append(lines, "this key cannot delete, which prune = false does not need: the probe stays there")
	}
	return lines, nil
}

// InitVaultDir prepares a directory of this machine for a vault, and lays the vault
// itself where signers name the host's key. What is returned has no id where the
// host's first sync makes the vault.
func InitVaultDir(ctx context.Context, path string, signers []string) (info offsite.VaultInfo, err error) {
	if len(signers) > 1 {
		return info, &failure.Error{Op: "vault init", Subject: "--signer", Kind: failure.Usage,
			Err: errors.New("a vault begins with one signer"), Hint: "add others with vault signer add"}
	}
	remote, err := dir.Create(path, tree.Trusted(""))
	if err != nil {
		return info, err
	}
	defer remote.Close()
	c := config.Default()
	create := offsite.VaultInfo{
		Created:   time.Now().UTC().Truncate(time.Second),
		Retention: policyOf(c.Retention, time.UTC, c.Schedule.Weekly),
	}
	if len(signers) == 1 {
		create.Signer = signers[0]
	}
	v, err := offsite.InitDir(ctx, remote, create)
	if err != nil || v == nil {
		return info, err
	}
	if create.Signer != "" {
		err = AddReaderSigner(v.Info.ID, create.Signer)
	}
	return v.Info, err
}
