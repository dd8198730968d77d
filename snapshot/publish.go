package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
)

// publish writes both documents, makes everything durable and renames the
// snapshot into place, or into quarantine/ when it is not valid.
func (t *takeRun) publish(ctx context.Context, stamp Stamp) (Snapshot, error) {
	for {
		raw, err := t.complete(stamp)
		if err != nil {
			return Snapshot{}, takeFailure(stamp, err)
		}
		if !t.manifest.Validation.Valid && !t.o.Tolerant {
			return Snapshot{}, t.quarantine(stamp)
		}
		if err := ctx.Err(); err != nil {
			return Snapshot{}, err
		}
		if err = t.rename(t.store.Path(stamp)); err == nil {
			snap := t.store.found(stamp)
			snap.describe(t.manifest)
			snap.RawMetadata = raw
			return snap, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return Snapshot{}, takeFailure(stamp, err)
		}
		// AtoCore itself took a snapshot in this very second.
		if stamp, err = t.store.freeStamp(ctx, stamp.Time().Add(time.Second)); err != nil {
			return Snapshot{}, err
		}
	}
}

// rename publishes, or takes it back when the new name could not be made
// durable: a snapshot that a power cut may remove must not be reported, nor be
// left behind by a run that failed.
func (t *takeRun) rename(dest string) error {
	err := fsx.RenameNoReplace(t.dir, dest)
	if err != nil && !exists(t.dir) {
		err = errors.Join(err, fsx.RenameNoReplace(dest, t.dir))
	}
	return err
}

// complete writes the documents for a snapshot that will be named stamp, and
// makes everything durable. It returns the text of the metadata.
func (t *takeRun) complete(stamp Stamp) (raw []byte, err error) {
	m := t.manifest
	m.Stamp, m.FinishedAt = stamp, time.Now().UTC()
	path := t.path(MetadataFile)
	if err := t.store.writeJSON(path, NewMetadata(m, t.store.Path(stamp))); err != nil {
		return nil, err
	}
	if raw, err = fsx.ReadRegular(path, mostMetadata); err != nil {
		return nil, err
	}
	entry, err := describe(path, MetadataFile)
	if err != nil {
		return nil, err
	}
	entries := []File{entry}
	if err := digest(context.Background(), t.dir, entries, nil, nil); err != nil {
		return nil, err
	}
	for _, f := range m.Files {
		if f.Path != MetadataFile { // that of the second that was taken
			entries = append(entries, f)
		}
	}
	m.Files = entries
	if err := t.store.writeJSON(t.path(ManifestFile), m); err != nil {
		return nil, err
	}
	t.o.Progress.Tell("fsync", 0, 0)
	return raw, fsx.SyncDirs(t.dir) // every file was made durable when it was written
}

// quarantine keeps a copy that is not valid for somebody to look at.
func (t *takeRun) quarantine(stamp Stamp) error {
	dest := filepath.Join(t.store.quarantine(), string(stamp))
	hint := "it is kept in " + dest + " for a look; take another, and when that fails too suspect the source or " +
		"the disk"
	if err := fsx.RenameNoReplace(t.dir, dest); err != nil && !exists(dest) {
		hint = "it could not be kept (" + err.Error() + "); take another, and when that fails too suspect the " +
			"source or the disk"
	}
	return &failure.Error{Op: "backup", Subject: string(stamp), Kind: failure.Invalid,
		Err: fmt.Errorf("the copy did not validate: %s", strings.Join(t.manifest.Validation.Errors, "; ")), Hint: hint}
}
