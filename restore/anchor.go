package restore

import (
	"context"
	"path"
	"path/filepath"

	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot"
	"github.com/atocore/atobackupd/snapshot/chroma"
)

// anchor makes the pre-restore snapshot out of what was moved aside, while the
// restored service may be running already. The files are copied, never published
// themselves: the application may still hold one of them open.
func (s *session) anchor(
	ctx context.Context,
	store *snapshot.Store,
	o snapshot.TakeOptions,
) (snap snapshot.Snapshot, err error) {
	s.progress.Tell("save what was live before", 0, 0)
	o.Kind, o.Tolerant, o.Chroma.Method, o.Full = snapshot.PreRestore, true, chroma.MethodCold, false
	o.RecordAs = snapshot.Sources{DB: s.Live.DB, Registry: s.Live.Registry, Chroma: s.Live.Chroma}
	o.Owners, o.Proven = s.owners, s.proven
	from := o.RecordAs
	from.Chroma = ""
	for _, t := range s.Sets {
		switch t.Artifact {
		case snapshot.DB:
			from.DB = filepath.Join(t.old.Path(), filepath.Base(mainEntry(t)))
		case snapshot.Registry:
			from.Registry = filepath.Join(t.old.Path(), filepath.Base(mainEntry(t)))
		case snapshot.Chroma:
			from.Chroma, o.Full = t.old.Path(), true
		}
		if err := t.stillThere(s.Stamp); err != nil {
			return snap, err
		}
	}
	if o.Progress == nil {
		o.Progress = s.progress
	}
	if snap, err = store.Take(ctx, from, o); err != nil {
		return snap, err
	}
	for _, t := range s.Sets {
		if err := s.keepUnsaved(t, snap.Manifest); err != nil {
			return snap, err
		}
	}
	return snap, nil
}

// mainEntry is the name of a set's file: its sidecars come before it.
func mainEntry(t *swapSet) string { return t.Entries[len(t.Entries)-1].Name }

// keepUnsaved moves what the pre-restore snapshot does not hold out of what is
// going to be removed, and names it: it may be the only copy.
func (s *session) keepUnsaved(t *swapSet, m *snapshot.Manifest) error {
	saved := map[string]bool{}
	for _, f := range m.Files {
		saved[f.Path] = true
	}
	under := map[string]string{snapshot.DB: path.Dir(snapshot.DBFile), snapshot.Registry: path.Dir(
		snapshot.RegistryFile,
	),
		snapshot.Chroma: snapshot.ChromaDir}[t.Artifact]
	names := map[string]string{
		snapshot.DB:       path.Base(snapshot.DBFile),
		snapshot.Registry: path.Base(snapshot.RegistryFile),
	}
	recovered := t.Artifact == snapshot.DB && m.Artifacts[snapshot.DB].Method != "raw"
	var unsaved []string
	err := t.old.Walk(false, func(n tree.Node, err error) error {
		if err != nil {
			return err
		}
		stored := n.Path
		if main, ok := sidecarOf(n.Path); ok && t.Artifact == snapshot.DB {
			if recovered && n.IsRegular() {
				return nil // its commits are in the database that was saved
			}
			stored = names[t.Artifact] + n.Path[len(main):]
		} else if name, ok := names[t.Artifact]; ok {
			stored = name
		}
		if saved[path.Join(under, stored)] || n.IsDir() && t.Leaves {
			return nil
		}
		unsaved = append(unsaved, n.Path)
		return skip(n)
	})
	if err != nil {
		return err
	}
	for _, name := range unsaved {
		if err := s.setAside(t, t.old, name); err != nil {
			return err
		}
		s.warn("%s could not be saved in the pre-restore snapshot; it was moved to %s and is yours to look at",
			t.live.Name(name), keptDir(t.Dir, s.Stamp))
	}
	return nil
}
