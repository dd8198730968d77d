package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/restore"
	"github.com/atocore/atobackupd/snapshot"
	"github.com/atocore/atobackupd/snapshot/sqlite"
)

// loseStore removes everything on the host but its configuration and its key
// to the laptop: the live store and all local snapshots.
func (s *story) loseStore(ctx context.Context) error {
	s.writer.stop()
	lost := 0
	for _, dir := range []string{"live", "backups/snapshots"} {
		entries, err := os.ReadDir(s.path(dir))
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if err := os.RemoveAll(s.path(dir, entry.Name())); err != nil {
				return err
			}
			lost++
		}
	}
	s.say("the disk dies: the live store and every local snapshot are gone")
	if lost == 0 {
		return errors.New("there was nothing to lose")
	}
	return nil
}

// restore brings the weekly snapshot back from the laptop.
func (s *story) restore(ctx context.Context) error {
	result, _, err := s.app.Restore(ctx, app.RestoreRequest{
		Name: string(s.weekly.Stamp), From: "laptop", Identity: s.identity,
		Options: restore.Options{ConfirmServiceStopped: true},
	})
	if err != nil {
		return err
	}
	if !result.DBRestored || !result.RegistryRestored || !result.ChromaRestored || !result.RestoredIntegrityOK {
		return fmt.Errorf("not everything came back: %+v", result)
	}
	s.say("%s fetched with the key from the drawer, signature and", s.weekly.Stamp)
	s.more("digests verified, staged, checked and swapped in, in %.1f s", float64(result.DurationMS)/1000)
	return nil
}

// compare holds what is live now against what was recorded when the snapshot
// was taken, and against what the writer had been promised.
func (s *story) compare(ctx context.Context) error {
	manifest := s.weeklyManifest
	files, size64 := 0, int64(0)
	for _, f := range manifest.Files {
		if f.Type != snapshot.TypeFile || f.Path == snapshot.MetadataFile {
			continue
		}
		data, err := os.ReadFile(s.livePath(f.Path))
		if err != nil {
			return err
		}
		digest := sha256.Sum256(data)
		if hex.EncodeToString(digest[:]) != f.SHA256 {
			return fmt.Errorf("%s differs", f.Path)
		}
		files++
		size64 += f.Size
	}
	data, err := os.ReadFile(s.livePath(snapshot.RegistryFile))
	if err != nil || !bytes.Equal(data, []byte(registryText)) {
		return errors.Join(errors.New("the registry differs"), err)
	}
	whole, err := sqlite.QueryTrue(ctx, s.livePath(snapshot.DBFile),
		tree.Trusted(""),
		fmt.Sprintf("select (select count(*) from memories) = (select memories from ledger) and (select memories "+
			"from ledger) >= %d", s.committed))
	if err != nil {
		return err
	}
	if !whole {
		return fmt.Errorf("the database does not hold the %d transactions that were committed before the snapshot, "+
			"each whole", s.committed)
	}
	s.say("%d files, %s: every byte is that of the snapshot; all %d", files, size(size64), s.committed)
	s.more("transactions that were committed before it began are there, each whole")
	return nil
}

// livePath returns the live file that a snapshot's path stands for.
func (s *story) livePath(name string) string {
	return s.path("live", filepath.FromSlash(name))
}
