package snapshot

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot/chroma"
	"github.com/atocore/atobackupd/snapshot/sqlite"
)

// AdoptForeign copies what a foreign snapshot holds into one of the store's, under
// the next free stamp after its own: its owner can change the original as he likes,
// while it is copied and afterwards, so the original is only read, by handle, and
// what is checked and published is the copy. No manifest of the original's is read.
// A copy that does not validate goes to quarantine/, and the error is of kind
// Invalid. The caller holds the main lock.
func (s *Store) AdoptForeign(ctx context.Context, stamp Stamp, o AdoptOptions) (Snapshot, error) {
	owners := tree.Trusted(s.dir)
	from, content, err := s.openForeign(stamp, owners)
	if err != nil {
		return Snapshot{}, &failure.Error{Op: "adopt", Subject: string(stamp), Err: err,
			Hint: "it holds something that no snapshot of AtoCore's has; look at it, and remove it"}
	}
	defer from.close()
	take := TakeOptions{
		Kind: cmp.Or(o.Kind, Adopted), Full: content.ChromaIncluded, Host: o.Host, ToolVersion: o.ToolVersion,
		MinFree: o.MinFree, Share: o.Share, Chroma: chroma.Options{Method: chroma.MethodCold}, RecordAs: o.Sources,
		Owners: o.Owners, Note: "adopted from " + string(stamp), Progress: o.Validate.Progress,
	}
	src := Sources{DB: from.db.Path(), RequiredTables: o.Validate.RequiredTables}
	if from.registry.dir != nil {
		src.Registry = from.registry.path()
	}
	if from.chroma != nil {
		src.Chroma = from.chroma.Path()
	}
	if err := errors.Join(s.checkOwnDirs(), s.checkPlace(), s.CheckWritable()); err != nil {
		return Snapshot{}, err
	}
	need, err := s.estimate(from, take)
	if err == nil {
		err = fsx.RequireFree(s.staging(), need, take.MinFree)
	}
	if err != nil {
		return Snapshot{}, err
	}
	return s.run(ctx, &takeRun{store: s, src: src, from: from, o: take, started: time.Now().UTC(), stored: true},
		s.nextFree(stamp))
}

// openForeign opens the artifacts of a foreign snapshot by handle.
func (s *Store) openForeign(stamp Stamp, owners tree.Owners) (_ *held, content Content, err error) {
	top, err := tree.Open(s.snapshots(), owners)
	if err != nil {
		return nil, content, err
	}
	defer top.Close()
	dir, err := top.OpenDir(string(stamp))
	if err != nil {
		return nil, content, err
	}
	defer dir.Close()
	content = Content{DB: filepath.FromSlash(DBFile), Registry: filepath.FromSlash(RegistryFile), Chroma: ChromaDir}
	metadata := &Metadata{}
	if raw, err := dir.ReadFile(MetadataFile, mostMetadata); err == nil && json.Unmarshal(raw, metadata) == nil {
		content = ContentOf(s.Path(stamp), nil, metadata)
	}
	h := &held{owners: owners}
	open := func(name string) (*tree.Dir, string, error) {
		in, err := dir.OpenDir(filepath.ToSlash(filepath.Dir(name)))
		return in, filepath.Base(name), err
	}
	if h.db.Dir, h.db.Name, err = open(content.DB); err == nil && content.RegistryIncluded {
		h.registry.dir, h.registry.name, err = open(content.Registry)
	}
	if err == nil && content.ChromaIncluded {
		h.chroma, err = dir.OpenDir(content.Chroma)
	}
	if err != nil {
		return nil, content, errors.Join(err, h.close())
	}
	return h, content, nil
}

// nextFree returns the first stamp from this one on that no snapshot has.
func (s *Store) nextFree(stamp Stamp) Stamp {
	for exists(s.Path(stamp)) || exists(filepath.Join(s.quarantine(), string(stamp))) {
		stamp = StampOf(stamp.Time().Add(time.Second))
	}
	return stamp
}

// copyStoredDB copies a database that lies in a snapshot, so that SQLite need not
// open it there, and makes its checks those of any copy.
func (t *takeRun) copyStoredDB(ctx context.Context, dst string) (sqlite.Copied, error) {
	live := t.from.db
	for _, suffix := range []string{"-wal", "-journal"} {
		if info, err := live.Dir.Lstat(live.Name + suffix); err == nil && info.Size > 0 {
			t.result.fail(sqlite.CodeSidecarPresent, "%s%s lies beside the database", live.Name, suffix)
		}
	}
	if err := copyLiveFile(ctx, dst, live.Dir, live.Name, t.o.Share.reflinks()); err != nil {
		return sqlite.Copied{}, err
	}
	info, err := live.Dir.Lstat(live.Name)
	return sqlite.Copied{Method: methodAdopted, Bytes: info.Size}, err
}

// methodAdopted is of a file that was copied out of a foreign snapshot.
const methodAdopted = "adopted"
