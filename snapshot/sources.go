package snapshot

import (
	"errors"
	"io/fs"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot/sqlite"
)

// The application owns the live store, and so can exchange any part of it while
// it is copied. So each configured path is resolved once, and what it led to is
// worked in by handle: a link that the application put there is refused, and a
// directory that was moved away meanwhile is an error.

// place is a live file: a directory that was opened once, and a name in it.
type place struct {
	dir  *tree.Dir
	name string
}

func (p place) path() string { return p.dir.Name(p.name) }

func openPlace(path string, owners tree.Owners) (p place, err error) {
	p.dir, p.name, err = tree.OpenParent(path, owners)
	return p, err
}

// held are the live artifacts, held open. What is not configured, or not asked
// for, has no handle; of what is missing, why says so.
type held struct {
	db       sqlite.Live
	registry place
	chroma   *tree.Dir
	owners   tree.Owners

	noDB, noRegistry, noChroma error // why there is no handle
}

// openSources resolves the configured paths. What cannot be opened is told where
// it is asked for: a snapshot before a restore is taken of what is there.
func openSources(src Sources, full bool, owners tree.Owners) (h *held, err error) {
	if owners == nil {
		owners = tree.Trusted("")
	}
	h = &held{owners: owners}
	h.db, h.noDB = sqlite.OpenLive(src.DB, owners)
	if src.Registry != "" {
		h.registry, h.noRegistry = openPlace(src.Registry, owners)
	}
	if full {
		h.chroma, h.noChroma = openChroma(src.Chroma, owners)
	}
	for _, err := range []error{h.noDB, h.noRegistry, h.noChroma} {
		if failure.KindOf(err) == failure.Refused { // a link of somebody else's
			return nil, errors.Join(err, h.close())
		}
	}
	return h, nil
}

func (h *held) close() error {
	return errors.Join(h.db.Close(), h.registry.dir.Close(), h.chroma.Close())
}

// stillThere fails where a configured path leads elsewhere by now: what was copied
// is not what the application uses.
func (h *held) stillThere() error {
	for _, dir := range []*tree.Dir{h.db.Dir, h.registry.dir, h.chroma} {
		if dir == nil {
			continue
		}
		if err := dir.CheckPlace(h.owners); err != nil {
			return &failure.Error{Op: "backup", Subject: dir.Path(), Err: err,
				Hint: "find out who moves the live store, and take the snapshot again"}
		}
	}
	return nil
}

// openChroma opens the live Chroma directory and explains why it cannot.
func openChroma(path string, owners tree.Owners) (*tree.Dir, error) {
	if path == "" {
		return nil, &failure.Error{Op: "backup", Subject: "chroma", Kind: failure.Config,
			Err:  errors.New("a full snapshot was asked for and no Chroma directory is configured"),
			Hint: "set atocore.chroma_path, or use --no-chroma"}
	}
	dir, base, err := tree.OpenParent(path, owners)
	if err == nil && base != "." {
		defer dir.Close()
		info, lstatErr := dir.Lstat(base)
		if err = lstatErr; err == nil && !info.IsDir() {
			return nil, &failure.Error{
				Op:      "backup",
				Subject: path,
				Err:     errors.New("it is not a directory"),
				Hint:    "correct atocore.chroma_path",
			}
		}
		if err == nil {
			dir, err = dir.OpenDir(base)
		}
	}
	switch {
	case err == nil:
		return dir, nil
	case failure.KindOf(err) == failure.Refused:
		return nil, err
	case errors.Is(err, fs.ErrNotExist):
		return nil, &failure.Error{
			Op:      "backup",
			Subject: path,
			Err:     errors.New("the Chroma directory does not exist"),
			Hint:    "is its disk mounted? correct atocore.chroma_path, or use --no-chroma",
		}
	}
	return nil, &failure.Error{Op: "backup", Subject: path, Err: err, Hint: "this process must be able to read it"}
}

// rootAt describes the directory at a configured path.
func rootAt(path string, owners tree.Owners) (Root, error) {
	dir, err := tree.Open(path, owners)
	if err != nil {
		return Root{}, err
	}
	defer dir.Close()
	return rootOf(dir)
}

func rootOf(dir *tree.Dir) (Root, error) {
	info, err := dir.Info()
	return Root{Path: dir.Path(), Mode: info.Mode, UID: info.UID, GID: info.GID}, err
}

// liveEntry is what the manifest says of a live file or directory besides its
// bytes.
func liveEntry(info tree.Info) File {
	return File{Mode: info.Mode, UID: info.UID, GID: info.GID, MTime: info.MTime.UTC()}
}
