package snapshot

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/snapshot/chroma"
	"github.com/atocore/atobackupd/snapshot/sqlite"
)

// The codes of a source that shrank, as they stand in Manifest.Suspect.
const (
	suspectTableEmptied  = "db_table_emptied"
	suspectDBShrunk      = "db_shrunk"
	suspectRegistry      = "registry_shrunk"
	suspectChroma        = "chroma_shrunk"
	suspectChromaUnknown = "chroma_unverified"
)

// Suspicions returns why the source is suspected of having shrunk when the
// snapshot was taken; nil once somebody accepted that.
func (s *Snapshot) Suspicions() []string {
	if s.Manifest == nil || s.Manifest.AcceptedAt != nil {
		return nil
	}
	return s.Manifest.Suspect
}

// SuspicionTexts returns the same with the figures.
func (s *Snapshot) SuspicionTexts() []string {
	var texts []string
	for _, code := range s.Suspicions() {
		found := false
		for _, w := range s.Manifest.Validation.Warnings {
			if strings.HasPrefix(w, code+": ") {
				texts, found = append(texts, w), true
			}
		}
		if !found {
			texts = append(texts, code)
		}
	}
	return texts
}

// suspect compares what was staged, artifact by artifact, with the newest
// snapshot that counts and is not suspect itself. A source that shrank may have
// been cleaned on purpose: so the snapshot is published, with codes that protect
// what came before it, and with the figures among its warnings.
func (t *takeRun) suspect(ctx context.Context) error {
	list, _, err := t.store.List(t.started)
	if err != nil {
		return nil // what is wrong with the catalog is not for this snapshot to tell
	}
	now := contents{manifest: t.manifest, dir: t.dir}
	codes := make(map[string]bool)
	for _, artifact := range []string{DB, Registry, Chroma} {
		before := t.lastWhole(ctx, list, artifact)
		if before == nil ||
			before.Manifest.Artifacts[artifact].SourcePath != t.manifest.Artifacts[artifact].SourcePath {
			continue // none to compare with, or another source was configured since
		}
		var shrank []shrinkage
		then := contents{manifest: before.Manifest, dir: before.Path}
		switch artifact {
		case DB:
			shrank = shrunkTables(then.tables(), now.tables())
		case Registry:
			shrank = shrunkRegistry(then.registry(ctx), now.registry(ctx))
		case Chroma:
			if !t.o.Full {
				continue
			}
			shrank = shrunkChroma(ctx, then, now)
		}
		for _, f := range shrank {
			codes[f.code] = true
			t.result.warn(f.code, "%s (snapshot %s)", f.text, before.Stamp)
		}
	}
	if len(codes) > 0 {
		t.manifest.Suspect = slices.Sorted(maps.Keys(codes))
	}
	return ctx.Err()
}

// shrinkage is a code with the figures behind it.
type shrinkage struct{ code, text string }

func lastWith(list []Snapshot, artifact string, now time.Time) *Snapshot {
	return Newest(slices.DeleteFunc(slices.Clone(list), func(s Snapshot) bool {
		return s.Manifest == nil || !s.Manifest.Artifacts[artifact].Included || len(s.Suspicions()) > 0
	}), now, false)
}

// lastWhole is lastWith among those whose file that figures are read from is what it
// was: damage there would be told as a loss of the source. What the database held
// stands in the manifest.
func (t *takeRun) lastWhole(ctx context.Context, list []Snapshot, artifact string) *Snapshot {
	for ctx.Err() == nil {
		last := lastWith(list, artifact, t.started)
		if last == nil || artifact == Chroma && !t.o.Full || t.figuresAreWhole(ctx, last, artifact) {
			return last
		}
		list = slices.DeleteFunc(slices.Clone(list), func(s Snapshot) bool { return s.Stamp == last.Stamp })
	}
	return nil
}

func (t *takeRun) figuresAreWhole(ctx context.Context, s *Snapshot, artifact string) bool {
	name := map[string]string{Registry: RegistryFile, Chroma: ChromaDir + "/" + chroma.DatabaseName}[artifact]
	f, ok := filesByPath(s.Manifest)[name]
	if !ok || t.o.Proven.lies(s.Path, f) {
		return true
	}
	sum, err := digestOf(ctx, s.Path, name)
	return err == nil && sum == f.SHA256
}

// contents reads figures of a snapshot that is stored or staged.
type contents struct {
	manifest *Manifest
	dir      string
}

func (c contents) tables() map[string]int64 {
	if c.manifest.DB == nil {
		return nil
	}
	return c.manifest.DB.Tables
}

// indexTables are the endings of tables that SQLite's own indexes keep: their
// rows say nothing about the application's.
var indexTables = []string{"_data", "_idx", "_config", "_segments", "_segdir", "_stat", "_parent", "_node"}

func isIndexTable(name string, all map[string]int64) bool {
	for _, ending := range indexTables {
		base, ok := strings.CutSuffix(name, ending)
		if !ok {
			continue
		}
		for _, mark := range []string{"_config", "_segdir", "_node"} { // of FTS5, FTS3/4 and R*Tree
			if _, ok := all[base+mark]; ok {
				return true
			}
		}
	}
	return false
}

func shrunkTables(before, now map[string]int64) (found []shrinkage) {
	for _, name := range slices.Sorted(maps.Keys(before)) {
		was, is := before[name], now[name]
		switch {
		case isIndexTable(name, before):
		case was > 0 && is == 0:
			found = append(
				found,
				shrinkage{suspectTableEmptied, fmt.Sprintf("table %s had %d rows and has none", name, was)},
			)
		case was >= 100 && is < was-was/2:
			found = append(
				found,
				shrinkage{suspectDBShrunk, fmt.Sprintf("table %s had %d rows and has %d", name, was, is)},
			)
		}
	}
	return found
}

// registry returns how many entries each list of a stored registry has; nil where
// there is no registry.
func (c contents) registry(ctx context.Context) map[string]int {
	if !c.manifest.Artifacts[Registry].Included {
		return nil
	}
	data, err := fsx.ReadRegular(filepath.Join(c.dir, filepath.FromSlash(RegistryFile)), maxRegistry)
	if err != nil {
		return nil
	}
	return registryEntries(ctx, data)
}

func shrunkRegistry(before, now map[string]int) (found []shrinkage) {
	if now == nil {
		return []shrinkage{{suspectRegistry, "there was a registry and now there is none"}}
	}
	for _, key := range slices.Sorted(maps.Keys(before)) {
		if was, is := before[key], now[key]; was > 0 && is == 0 {
			found = append(
				found,
				shrinkage{suspectRegistry, fmt.Sprintf("%q of the registry had %d entries and has none", key, was)},
			)
		}
	}
	return found
}

func shrunkChroma(ctx context.Context, before, now contents) (found []shrinkage) {
	if before.manifest.Artifacts[Chroma].Consistency == Consistent &&
		now.manifest.Artifacts[Chroma].Consistency != Consistent {
		found = append(found, shrinkage{suspectChromaUnknown, "Chroma could be verified and now cannot"})
	}
	was, err := before.collections(ctx)
	if err != nil || was == nil {
		return found // it cannot be told any more what it held
	}
	is, err := now.collections(ctx)
	if err != nil || is == nil {
		return append(found, shrinkage{suspectChroma, "Chroma had its records and now they cannot be read"})
	}
	var had, has int64
	for _, name := range slices.Sorted(maps.Keys(was)) {
		had += was[name]
		if _, there := is[name]; !there && was[name] > 0 {
			found = append(
				found,
				shrinkage{suspectChroma, fmt.Sprintf("collection %s had %d records and is gone", name, was[name])},
			)
		}
	}
	for _, n := range is {
		has += n
	}
	if had > 0 && has < had-had/2 {
		found = append(found, shrinkage{suspectChroma, fmt.Sprintf("Chroma had %d records and has %d", had, has)})
	}
	return found
}

// collections returns the records of each collection; nil where the format is
// not known.
func (c contents) collections(ctx context.Context) (records map[string]int64, err error) {
	path := filepath.Join(c.dir, ChromaDir, chroma.DatabaseName)
	if !exists(path) {
		return nil, nil
	}
	err = sqlite.WithStored(ctx, path, func(ctx context.Context, db *sql.DB, _ int64) error {
		records, err = chroma.CountRecords(ctx, db)
		return err
	})
	return records, err
}

// Accept notes that a change was meant because of which a snapshot is suspect.
// The caller holds the main lock.
func (s *Store) Accept(stamp Stamp, now time.Time) error {
	return s.editManifest("accept", stamp, func(m *Manifest) bool {
		if len(m.Suspect) == 0 || m.AcceptedAt != nil {
			return false
		}
		m.AcceptedAt = ptr(now.UTC().Truncate(time.Second))
		return true
	})
}
