package restore

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/atocore/atobackupd/snapshot"
)

// check reads the restored store: the integrity of the database, and the
// digests of every file. What somebody has written to since it was put in place
// is reported instead: its bytes are no longer the snapshot's.
func (s *session) check(ctx context.Context) error {
	for _, t := range s.Targets {
		used, err := s.usedSince(t)
		if err != nil {
			return err
		}
		if err := s.checkFiles(ctx, t, used); err != nil {
			return err
		}
		if t.Artifact != snapshot.DB || !t.restores() || len(used) > 0 || !s.IntegrityOK {
			continue // or it was bad in the snapshot already, and has been said to be
		}
		db := t.Slots[len(t.Slots)-1]
		if s.IntegrityOK, err = s.checkDB(ctx, t.dest(db.Name), true); err != nil {
			return fmt.Errorf("restored_integrity_ok is false: %w", err)
		}
	}
	return nil
}

// usedSince gives the names that were written to since they were put in place.
func (s *session) usedSince(t *Target) (map[string]bool, error) {
	used := map[string]bool{}
	for _, slot := range t.Slots {
		if slot.New == nil {
			continue
		}
		at, err := inodeAt(t.dest(slot.Name))
		if err != nil {
			return nil, err
		}
		if !at.sameInode(slot.New) {
			return nil, fmt.Errorf("%s is not what was put there", t.dest(slot.Name))
		}
		same, err := unchanged(t.dest(slot.Name), slot.New)
		if err != nil {
			return nil, err
		}
		if !same {
			used[slot.Name] = true
			s.warn("%s was written to after it had been restored: the service was started before the restore had finished", t.dest(slot.Name))
		}
	}
	return used, nil
}

func (s *session) checkFiles(ctx context.Context, t *Target, used map[string]bool) error {
	s.progress("check "+t.Artifact, 0)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, f := range t.Files {
		first, _, _ := strings.Cut(f.Path, string(filepath.Separator))
		if used[first] {
			continue
		}
		group.Go(func() error {
			sum, err := digest(ctx, t.dest(f.Path), s.report)
			if err == nil && sum != f.SHA256 {
				err = errors.New("checksum_mismatch: " + t.dest(f.Path))
			}
			return err
		})
	}
	return group.Wait()
}
