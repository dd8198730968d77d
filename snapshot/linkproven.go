package snapshot

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot/chroma"
)

// methodLinked is of a database that was not copied: it is another name of a file
// that this run has validated, and that holds the same.
const methodLinked = "linked"

// mayLink reports whether a live file that holds what was proven becomes another
// name of the proven one. Reflinks come before hard links, as in shareSpace.
func (t *takeRun) mayLink() bool {
	return t.o.Proven != nil && t.o.Share.hardlinks() && !(t.o.Share.reflinks() && t.store.clonesOwn())
}

// linked reports whether a staged file is another name of the proven one.
func (t *takeRun) linked(name string) bool {
	if t.o.Proven == nil {
		return false
	}
	staged, err := os.Lstat(t.path(name))
	if err != nil {
		return false
	}
	proven, err := os.Lstat(t.o.Proven.path(name))
	return err == nil && os.SameFile(staged, proven)
}

// linkDB makes the database another name of the proven one, where the live one, with
// nothing beside it that belongs to it, holds the same. Otherwise it has done nothing.
func (t *takeRun) linkDB(ctx context.Context) bool {
	live := t.from.db
	if !t.mayLink() || live.Dir == nil || t.stored {
		return false
	}
	before, ok := t.stillDB()
	if !ok {
		return false
	}
	in, err := live.Dir.OpenFile(live.Name)
	if err != nil {
		return false
	}
	defer in.Close()
	path := t.provenPath(ctx, DBFile, before, in)
	if after, ok := t.stillDB(); path == "" || !ok || before != after {
		return false
	}
	dst := t.path(DBFile)
	return fsx.Announce(fsx.OpLink, dst) == nil && os.Link(path, dst) == nil
}

// stillDB is what the live database looks like, and reports whether there is no
// journal of it that holds anything.
func (t *takeRun) stillDB() (tree.Info, bool) {
	live := t.from.db
	for _, suffix := range []string{"-wal", "-journal"} {
		info, err := live.Dir.Lstat(live.Name + suffix)
		if err != nil && !errors.Is(err, fs.ErrNotExist) || err == nil && info.Size > 0 {
			return tree.Info{}, false
		}
	}
	info, err := live.Dir.Lstat(live.Name)
	return info, err == nil
}

// storedChroma is chroma.Options.Stored.
func (t *takeRun) storedChroma(ctx context.Context, e chroma.Entry, live *os.File) string {
	info, err := tree.FileInfo(live)
	if err != nil {
		return ""
	}
	return t.provenPath(ctx, ChromaDir+"/"+e.Path, info, live)
}

// provenPath returns where the proven file of that name lies, if the open live one
// holds the same, and nobody but this user can write to the other; or "".
func (t *takeRun) provenPath(ctx context.Context, name string, info tree.Info, live *os.File) string {
	known, ok := t.o.Proven.files[name]
	if !ok || known.Type != TypeFile || known.Size != info.Size || !known.MTime.Equal(info.MTime) {
		return ""
	}
	path := t.o.Proven.path(name)
	if !sameOwner(path, t.dir) {
		return ""
	}
	sum, err := digestOpen(ctx, live, t.o.Progress.Prefix(name).Count("compare", info.Size))
	if err != nil || sum != known.SHA256 || setStoredMode(path, info.Mode) != nil {
		_, _ = live.Seek(0, 0) // it is going to be copied
		return ""
	}
	return path
}
