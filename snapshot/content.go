package snapshot

import (
	"os"
	"path/filepath"
)

// Content says which artifacts a snapshot directory holds, and where in it.
// Paths are relative, with the system's separator.
type Content struct {
	DB, Registry, Chroma                      string
	DBIncluded, RegistryIncluded, ChromaKnown bool
	ChromaIncluded                            bool
	ChromaVerifiable                          bool // false: it was stored as unverified
}

// ContentOf says what a snapshot directory holds, by our manifest when it has
// one, else by AtoCore's metadata, else by what lies there.
func ContentOf(dir string, manifest *Manifest, metadata *Metadata) Content {
	c := Content{
		DB: filepath.FromSlash(DBFile), Registry: filepath.FromSlash(RegistryFile), Chroma: ChromaDir,
		DBIncluded: true, ChromaVerifiable: true,
	}
	if manifest != nil {
		c.DBIncluded = manifest.Artifacts[DB].Included
		c.RegistryIncluded = manifest.Artifacts[Registry].Included
		c.ChromaIncluded = manifest.Artifacts[Chroma].Included
		c.ChromaVerifiable = manifest.Artifacts[Chroma].Consistency != Unverified
	}
	if manifest == nil || manifest.Artifacts[DB].Method == methodAtoCore {
		// AtoCore names its copies after the live files.
		if metadata == nil {
			metadata = &Metadata{}
		}
		c.DB = storedAs(dir, "db", metadata.DBSnapshotPath, c.DB)
		c.Registry = storedAs(dir, "config", metadata.RegistrySnapshotPath, c.Registry)
		if manifest == nil {
			c.RegistryIncluded = included(metadata.RegistrySnapshotPath, filepath.Join(dir, c.Registry))
			c.ChromaIncluded = exists(filepath.Join(dir, c.Chroma))
			if metadata.ChromaSnapshotIncluded != nil {
				c.ChromaIncluded = *metadata.ChromaSnapshotIncluded
			}
		}
	}
	return c
}

// Content says which artifacts a snapshot holds. Metadata that cannot be read say
// nothing.
func (s *Snapshot) Content() Content {
	metadata, err := ReadMetadata(s.Path)
	if err != nil {
		metadata = nil
	}
	return ContentOf(s.Path, s.Manifest, metadata)
}

// storedAs returns where AtoCore put an artifact: the last element of the path
// that it recorded (the rest is a path inside its container), in its own
// subdirectory.
func storedAs(dir, sub string, recorded *string, otherwise string) string {
	if recorded == nil || *recorded == "" {
		return otherwise
	}
	base := filepath.Base(filepath.Clean(*recorded))
	if base == ".." || base == "." || base == string(filepath.Separator) {
		return otherwise
	}
	name := filepath.Join(sub, base)
	if !exists(filepath.Join(dir, name)) && exists(filepath.Join(dir, otherwise)) {
		return otherwise
	}
	return name
}

func included(recorded *string, path string) bool {
	if recorded == nil {
		return exists(path)
	}
	return *recorded != ""
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
