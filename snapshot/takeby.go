package snapshot

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
)

// TakeBy is Take where AtoCore makes the snapshot itself: ask has it made in
// this store's snapshots directory and returns its stamp. Where that belongs to
// AtoCore's user it is copied into one of ours, under a stamp of its own (see
// AdoptForeign); else it is judged and given our manifest in place. Either has the
// kind that o names, so that it counts like one of ours. One that does not validate
// is moved to quarantine/ and the error is of kind Invalid. An error of ask's is
// given back as it is. The caller holds the main lock.
func (s *Store) TakeBy(
	ctx context.Context,
	src Sources,
	o TakeOptions,
	ask func(context.Context) (Stamp, error),
) (Snapshot, error) {
	share := o.Share
	o.Share = "" // AtoCore shares nothing
	from, err := openSources(src, o.Full, o.Owners)
	if err != nil {
		return Snapshot{}, err
	}
	defer from.close()
	if err := s.preflight(ctx, src, from, o); err != nil {
		return Snapshot{}, err
	}
	stamp, err := ask(ctx)
	if err != nil {
		return Snapshot{}, err
	}
	snap, err := s.Get(stamp)
	switch {
	case failure.KindOf(err) == failure.NotFound:
		return Snapshot{}, &failure.Error{Op: "backup", Subject: string(stamp), Kind: failure.Config,
			Err:  fmt.Errorf("AtoCore made it, and not in %s", s.snapshots()),
			Hint: "set backup.dir to this machine's side of AtoCore's own backup directory"}
	case err != nil:
		return Snapshot{}, err
	case snap.Manifest != nil:
		return Snapshot{}, &failure.Error{
			Op:      "backup",
			Subject: string(stamp),
			Err:     errors.New("AtoCore names a snapshot that was there before"),
		}
	case o.Full && !snap.Full:
		return Snapshot{}, &failure.Error{
			Op:      "backup",
			Subject: string(stamp),
			Err:     errors.New("AtoCore made it without Chroma"),
		}
	}
	adopt := AdoptOptions{
		Kind: o.Kind, Host: o.Host, ToolVersion: o.ToolVersion, Sources: src,
		Validate: ValidateOptions{RequiredTables: src.RequiredTables, Progress: o.Progress},
		MinFree:  o.MinFree, Share: share, Owners: o.Owners,
	}
	if snap.Foreign {
		return s.AdoptForeign(ctx, stamp, adopt)
	}
	result, err := s.Adopt(ctx, stamp, adopt)
	if err != nil {
		return Snapshot{}, err
	}
	if !result.Valid {
		return Snapshot{}, s.reject(stamp, result)
	}
	return s.Get(stamp)
}

// reject takes a snapshot that AtoCore made out of the catalog.
func (s *Store) reject(stamp Stamp, result Result) error {
	dest := filepath.Join(s.quarantine(), string(stamp))
	hint := "it is kept in " + dest + " for a look"
	if err := fsx.RenameNoReplace(s.Path(stamp), dest); err != nil && !exists(dest) {
		hint = "it is still listed, as invalid: " + err.Error()
	}
	return &failure.Error{Op: "backup", Subject: string(stamp), Kind: failure.Invalid,
		Err: fmt.Errorf("what AtoCore made does not validate: %s", strings.Join(result.Errors, "; ")), Hint: hint}
}
