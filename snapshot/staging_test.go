package snapshot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/forktest"
)

// What lies in staging/ and was not made by this program stays, whatever it is
// called and whatever it leads to.
func TestSweepTakesOnlyItsOwn(t *testing.T) {
	in := install(t)
	ours := []string{
		"20260407T060000Z.3141592653", "20260407T060000Z.3141592653.link", "20260407T060000Z.3141592653.clone",
		"20260407T060000Z.prune-27182",
		"20260407T060000Z.healing", "20260407T060000Z.metadata", "atobackupd-drill-20260407T060000Z-99",
		"atobackupd-from-laptop-7",
		".atobackupd.json.42", ".backup-metadata.json.42",
	}
	foreign := []string{
		"20260407T060000Z",
		"20260407T060000Z.bak",
		"20260407T060000Z.3141592653.old",
		"clone-7",
		"mine",
		"precious",
		"mount",
		"atobackupd",
		".atobackupd.json",
		"x20260407T060000Z.1",
		"20260407T060000Z.1\n",
	}
	for _, name := range append(slices.Clone(ours), foreign...) {
		must(t, os.MkdirAll(filepath.Join(in.store.staging(), name, "inside"), 0o755))
		must(t, os.WriteFile(filepath.Join(in.store.staging(), name, "thesis"), []byte("x"), 0o600))
	}
	elsewhere := t.TempDir()
	must(t, os.WriteFile(filepath.Join(elsewhere, "photo"), []byte("x"), 0o600))
	must(t, os.Symlink(elsewhere, filepath.Join(in.store.staging(), "20260407T060000Z.1")))
	must(t, os.Symlink(elsewhere, filepath.Join(in.store.staging(), "20260407T060000Z.3141592653", "out")))

	removed, left, err := in.store.Sweep()
	must(t, err)
	ours = append(ours, "20260407T060000Z.1")
	slices.Sort(ours)
	slices.Sort(foreign)
	slices.Sort(removed)
	slices.Sort(left)
	if !slices.Equal(removed, ours) || !slices.Equal(left, foreign) {
		t.Errorf("removed %q\nwant    %q\nleft    %q\nwant    %q", removed, ours, left, foreign)
	}
	for _, path := range []string{
		filepath.Join(elsewhere, "photo"),
		filepath.Join(in.store.staging(), "precious", "thesis"),
	} {
		if !exists(path) {
			t.Errorf("%s is gone", path)
		}
	}
}

// A mount below one of our own names is somebody else's disk.
func TestSweepEntersNoMount(t *testing.T) {
	in := install(t)
	cmd := forktest.OwnMounts(forktest.Command("sweep a mount", job{Store: in.store.Dir()}))
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "kept\n" {
		t.Errorf("%v: %s", err, out)
	}
}

// sweepAcrossMount runs in a mount namespace of its own.
func sweepAcrossMount(j job) error {
	store, err := Open(j.Store)
	if err != nil {
		return err
	}
	if err := forktest.PrivateMounts(); err != nil {
		return err
	}
	disk, at := filepath.Join(j.Store, "disk"), filepath.Join(store.staging(), "20260407T060000Z.1", "mnt")
	if err := errors.Join(os.Mkdir(disk, 0o755), os.MkdirAll(at, 0o755), syscall.Mount(
		disk,
		at,
		"",
		syscall.MS_BIND,
		"",
	),
		os.WriteFile(filepath.Join(at, "photo"), nil, 0o600)); err != nil {
		return err
	}
	if _, _, err := store.Sweep(); err == nil {
		return errors.New("nothing is said of the mount")
	}
	if !exists(filepath.Join(disk, "photo")) {
		return errors.New("the mounted disk was emptied")
	}
	fmt.Println("kept")
	return nil
}

// A directory of the store that is a link would have another one swept.
func TestLinkedDirectoriesAreRefused(t *testing.T) {
	for _, name := range []string{"snapshots", "staging", "quarantine"} {
		t.Run(name, func(t *testing.T) {
			in := install(t)
			elsewhere := t.TempDir()
			must(t, os.WriteFile(filepath.Join(elsewhere, "20260407T060000Z.1"), []byte("x"), 0o600))
			must(t, os.Remove(filepath.Join(in.store.Dir(), name)))
			must(t, os.Symlink(elsewhere, filepath.Join(in.store.Dir(), name)))
			_, openErr := Open(in.store.Dir())
			_, _, sweepErr := in.store.Sweep()
			for what, err := range map[string]error{"open": openErr, "sweep": sweepErr} {
				if failure.KindOf(err) != failure.Refused {
					t.Errorf("%s: %v", what, err)
				}
			}
			if !exists(filepath.Join(elsewhere, "20260407T060000Z.1")) {
				t.Error("what the link leads to was swept")
			}
		})
	}
}
