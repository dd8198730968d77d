package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/config"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/health"
	"github.com/atocore/atobackupd/internal/history"
	"github.com/atocore/atobackupd/offsite"
)

// VerifiedVault is the document of a verify of one vault.
type VerifiedVault struct {
	Target       string `json:"target,omitempty"`
	VaultID      string `json:"vault_id"`
	Signer       string `json:"signer"`
	SignerPinned bool   `json:"signer_pinned"`
	offsite.Verified
	Error string `json:"error,omitempty"`
}

// VerifyBounds says how much a verify reads.
type VerifyBounds struct {
	Bytes    int64         // of packs, least recently read first; 0 reads all
	Every    time.Duration // within which every pack is to be read; 0: in this run
	Fraction float64       // of the packs, drawn at random
	Name     string        // one snapshot; "" is all
}

// VerifyJob is the name under which the verify of a target is recorded.
func VerifyJob(target string) string { return "verify:" + target }

// VerifyTargets re-reads the vaults of the targets, or of the one that is named,
// without a key: what was not read for longest goes first. The verify of a target
// has succeeded when nothing is damaged and every pack was read within
// bounds.Every.
func (a *App) VerifyTargets(ctx context.Context, target string, bounds VerifyBounds) (docs []VerifiedVault, err error) {
	targets, err := a.targetsFor(target)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, t := range targets {
		doc, err := a.VerifyTarget(ctx, t, bounds)
		if err != nil {
			doc.Error = err.Error()
			errs = append(errs, err)
		}
		docs = append(docs, doc)
		if ctx.Err() != nil {
			break
		}
	}
	return docs, joinTargets(errs)
}

// joinTargets puts the errors of several targets together: unreachable is the
// least of them.
func joinTargets(errs []error) error {
	slices.SortStableFunc(errs, func(a, b error) int {
		rank := func(err error) int {
			if failure.KindOf(err) == failure.Unreachable {
				return 1
			}
			return 0
		}
		return rank(a) - rank(b)
	})
	return errors.Join(errs...)
}

// VerifyTarget re-reads the vault of one target and keeps what it finds.
func (a *App) VerifyTarget(ctx context.Context, t config.Target, bounds VerifyBounds) (doc VerifiedVault, err error) {
	doc.Target = t.Name
	err = a.runJob(ctx, VerifyJob(t.Name), health.LegVerify(t.Name), history.Run{}, func(run *jobRun) error {
		lock, err := a.lockTarget(ctx, t.Name, "verify")
		if err != nil {
			return withTarget(t.Name, err)
		}
		defer lock.Unlock()
		v, err := a.OpenVaultTarget(ctx, t, nil)
		if failure.KindOf(err) == failure.NotFound && a.isPinned(t.Name) {
			err = &failure.Error{Op: "verify", Kind: failure.VaultMismatch, Err: err} // gone, and not yet to come
		}
		if err != nil {
			return withTarget(t.Name, err)
		}
		defer v.Close()
		switch {
		case bounds.isPart():
			run.leg = "" // which says nothing of the rest
		case !v.state.IsNew():
			run.begun()
		}
		doc, err = v.verify(ctx, bounds, t.BandwidthLimit.Bytes(), a.progressOf(VerifyJob(t.Name)).Prefix(t.Name))
		run.Bytes = doc.Bytes
		doc.Target = t.Name
		return withTarget(t.Name, err)
	})
	return doc, err
}

// isPart reports whether a part of a vault was asked for. The job's own runs are parts
// as well, and Every says whether they add up to all of it.
func (b VerifyBounds) isPart() bool { return b.Every == 0 && (b.Name != "" || b.Fraction < 1) }

// isPinned reports whether a target has had a vault. A state that cannot be read
// rules nothing out.
func (a *App) isPinned(target string) bool {
	state, err := offsite.LoadState(a.Config.StateDir, target)
	return err != nil || state.VaultID != ""
}

// Check re-reads a vault and, where it lies in a directory, leaves a report in it.
func (v *Vault) Check(ctx context.Context, bounds VerifyBounds, version string,
	progress fsx.Progress) (doc VerifiedVault, err error) {
	doc, err = v.verify(ctx, bounds, 0, progress)
	if err != nil && failure.KindOf(err) != failure.Invalid {
		return doc, err
	}
	if v.target != nil {
		return doc, err
	}
	now := time.Now().UTC()
	report := offsite.Report{At: now, What: "verify", Version: version, OK: err == nil, Findings: doc.Findings}
	if reportErr := v.PutReport(ctx, report); reportErr != nil {
		doc.Warnings = append(doc.Warnings, "no report was left in the vault: "+reportErr.Error())
	}
	return doc, err
}

// verify reads, and says what is wrong: an error of kind Invalid.
func (v *Vault) verify(ctx context.Context, bounds VerifyBounds, speed int64,
	progress fsx.Progress) (doc VerifiedVault, err error) {
	o := offsite.VerifyOptions{Signers: v.Signers, Name: bounds.Name, Fraction: bounds.Fraction, MaxBytes: bounds.Bytes,
		BytesPerSecond: speed, Progress: progress, State: v.state, Checks: v.checks}
	if v.state != nil && v.state.VaultID == "" {
		o.State, o.Checks = nil, nil // no vault of this machine
	}
	doc.Verified, err = v.Vault.Verify(ctx, o)
	doc.VaultID, doc.Signer, doc.SignerPinned = v.Info.ID, v.Signers.String(), v.Pinned
	doc.Warnings = append(doc.Warnings, v.Notes...)
	if o.Checks != nil {
		o.Checks.Add(doc.Findings, "verify", time.Now())
		err = errors.Join(err, o.Checks.Save())
	}
	switch {
	case err != nil:
		return doc, err
	case len(doc.Findings) > 0:
		return doc, verifyFailure(v.Name, doc.Findings)
	case doc.Empty:
		return doc, &failure.Error{Op: "verify", Subject: v.Name, Kind: failure.NotFound,
			Err:  errors.New("the vault holds no snapshot yet: nothing could be checked"),
			Hint: "take one, and send it: atobackupd backup; atobackupd sync --target " + v.Name}
	case bounds.Every > 0 && time.Since(doc.OldestAt) > bounds.Every && doc.Packs > 0:
		return doc, &failure.Error{Op: "verify", Subject: v.Name,
			Err: fmt.Errorf("not every pack was read within %s: %d of %d were read now", bounds.Every, doc.PacksRead,
				doc.Packs),
			Hint: "the next runs go on; raise schedule.verify_max_bytes if that does not suffice"}
	}
	return doc, nil
}

// verifyFailure is the error of a verify that found something.
func verifyFailure(name string, findings []offsite.Finding) error {
	var list []string
	for _, f := range findings {
		list = append(list, f.String())
	}
	if more := len(list) - 5; more > 0 {
		list = append(list[:5], fmt.Sprintf("%d more", more))
	}
	return &failure.Error{Op: "vault verify", Subject: name, Kind: failure.Invalid, Err: fmt.Errorf("damaged: %s",
		strings.Join(list, "; ")),
		Hint: "see `atobackupd status` on the host for what mends it, and check the disk that holds the vault"}
}
