package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// A directory of somebody else's among the snapshots counts for what AtoCore
// makes, whatever a manifest in it claims; adopted by root it is the store's, so
// that nobody changes what was validated.
func TestForeignSnapshotIsNotBelieved(t *testing.T) {
	const stranger = 61234
	in := install(t)
	snap, err := in.store.Take(
		context.Background(),
		in.src,
		TakeOptions{Kind: Daily, Host: "dalidou", ToolVersion: "1"},
	)
	if err != nil {
		t.Fatal(err)
	}
	m := snap.Manifest
	m.Pinned = true
	data, err := json.Marshal(m)
	manifest := filepath.Join(snap.Path, ManifestFile)
	if err := errors.Join(err, os.WriteFile(manifest, data, 0o600)); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(snap.Path, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, stranger, stranger))
	})
	if err != nil {
		t.Fatal(err)
	}
	seen, err := in.store.Get(snap.Stamp)
	if err != nil || seen.Manifest != nil || seen.Kind != Adopted || seen.Pinned || seen.Valid != nil {
		t.Fatalf("believed: %+v, %v", seen, err)
	}
	result, err := in.store.Adopt(
		context.Background(),
		snap.Stamp,
		AdoptOptions{Host: "dalidou", ToolVersion: "1", Sources: in.src},
	)
	if err != nil || !result.Valid {
		t.Fatalf("%+v, %v", result, err)
	}
	seen, err = in.store.Get(snap.Stamp)
	if err != nil || seen.Manifest == nil || seen.Kind != Adopted || seen.Pinned {
		t.Errorf("adopted: %+v, %v", seen, err)
	}
	err = filepath.WalkDir(snap.Path, func(path string, _ fs.DirEntry, err error) error {
		if info, statErr := os.Lstat(path); statErr != nil || in.store.isForeign(info) {
			t.Errorf("%s is the stranger's still", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
