package snapshot

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atocore/atobackupd/internal/fsx"
)

// Share says how snapshots share space with the live files and with each other.
// The zero value shares nothing.
type Share string

// The ways to share. Reflinks need a file system that has them (btrfs, xfs).
const (
	ShareAuto     Share = "auto"     // reflinks where they are possible, else hard links
	ShareReflink  Share = "reflink"  // reflinks where they are possible, else copies
	ShareHardlink Share = "hardlink" // hard links to unchanged files of the last snapshot, else copies
	ShareCopy     Share = "copy"     // every snapshot has blocks of its own
)

func (s Share) reflinks() bool  { return s == ShareAuto || s == ShareReflink }
func (s Share) hardlinks() bool { return s == ShareAuto || s == ShareHardlink }

// shareSpace makes what was staged share blocks with the newest valid snapshots
// where they hold the same bytes. It comes after the digests: whatever it does,
// the manifest says what was copied from the live files. Sharing that does not
// work is no error, only space.
//
// On a file system with reflinks a file that was changed in places becomes a
// clone of its last version with these pages written over it, so that it takes
// the space of these pages, however the live file was rewritten. (To let the
// kernel deduplicate the pages that are alike would be less work and free
// nothing on btrfs: there one page keeps the whole extent that it was written
// with.) Elsewhere a file that is the same in size, time and digest becomes a
// hard link.
func (t *takeRun) shareSpace(ctx context.Context) error {
	clones := t.o.Share.reflinks() && t.store.clonesOwn()
	if !clones && !t.o.Share.hardlinks() {
		return nil
	}
	t.o.Progress.Tell("sharing", 0, 0)
	before, err := t.store.latestFiles()
	if err != nil {
		return nil // what is wrong with the catalog is not for this snapshot to tell
	}
	for _, f := range t.manifest.Files {
		last, ok := before[f.Path]
		if !ok || f.Type != TypeFile || f.Size == 0 || t.linked(f.Path) {
			continue
		}
		if clones {
			t.cloneAndPatch(ctx, last, f)
		} else {
			t.linkTo(ctx, last, f)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// stored is a file of a published snapshot.
type stored struct {
	File
	dir string // of the snapshot
}

func (f stored) path() string { return filepath.Join(f.dir, filepath.FromSlash(f.Path)) }

// latestFiles returns the files of the newest valid snapshot, and of the newest
// valid full one where the other does not have them. Those that AtoCore made do
// not count: it may still write to them.
func (s *Store) latestFiles() (map[string]stored, error) {
	list, _, err := s.List(time.Now())
	if err != nil {
		return nil, err
	}
	files := make(map[string]stored)
	for _, snap := range slices.Backward(list) {
		if !snap.IsValid() || snap.Manifest == nil || snap.Manifest.Artifacts[DB].Method == methodAtoCore ||
			len(files) > 0 && !snap.Full {
			continue
		}
		for _, f := range snap.Manifest.Files {
			if _, known := files[f.Path]; !known && f.Type == TypeFile {
				files[f.Path] = stored{f, snap.Path}
			}
		}
		if snap.Full {
			break
		}
	}
	return files, nil
}

// linkTo replaces a staged file by a hard link to one that is the same. The
// other is read first: a block that rotted there must not get into this
// snapshot too.
func (t *takeRun) linkTo(ctx context.Context, last stored, f File) {
	if last.Size != f.Size || last.SHA256 != f.SHA256 || !last.MTime.Equal(f.MTime) {
		return
	}
	path, staged := last.path(), t.path(f.Path)
	if !sameOwner(path, staged) {
		return // somebody else may write to it
	}
	if !t.o.Proven.lies(last.dir, f) {
		if sum, err := digestOf(ctx, last.dir, f.Path); err != nil || sum != f.SHA256 {
			return
		}
	}
	if err := setStoredMode(path, f.Mode); err != nil {
		return
	}
	// Its other name for a moment is outside of the snapshot, and swept from there.
	link := t.dir + ".link"
	if fsx.Announce(fsx.OpLink, link) != nil || os.Link(path, link) != nil {
		return // too many links, perhaps
	}
	if fsx.Announce(fsx.OpRename, staged) != nil || os.Rename(link, staged) != nil {
		_ = os.Remove(link)
	}
}

func digestOf(ctx context.Context, dir, name string) (string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	return digestFile(ctx, root, name, nil)
}

func sameOwner(a, b string) bool {
	var x, y unix.Stat_t
	return unix.Lstat(a, &x) == nil && unix.Lstat(b, &y) == nil && x.Uid == y.Uid && x.Mode&unix.S_IFMT == unix.S_IFREG
}

// setStoredMode sets on a published file the owner's permissions that the next
// snapshot needs of it, durably, and leaves to others at most what they have or had.
func setStoredMode(path string, mode uint32) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	has, wanted := info.Mode().Perm(), storedMode(mode)
	if want := (has|wanted)&0o055 | wanted&0o700; want != has {
		if err := os.Chmod(path, want); err != nil {
			return err
		}
		return fsx.SyncFile(path)
	}
	return nil
}
