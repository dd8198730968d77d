package restore

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/atocore/atobackupd/snapshot"
)

// source is the snapshot that is restored.
type source struct {
	dir      string
	stamp    snapshot.Stamp
	manifest *snapshot.Manifest // nil for one that AtoCore's own tools made
	content  snapshot.Content
	files    map[string]snapshot.File // by path; empty without a manifest
	problems []string                 // why it is not valid; none when it is
}

// readSource reads a snapshot's documents. One that cannot be read is taken for
// missing: validate says what is wrong with it.
func readSource(dir string, stamp snapshot.Stamp) *source {
	s := &source{dir: dir, stamp: stamp, files: map[string]snapshot.File{}}
	if m, err := snapshot.ReadManifest(dir); err == nil {
		s.manifest = m
		for _, f := range m.Files {
			s.files[f.Path] = f
		}
	}
	metadata, err := snapshot.ReadMetadata(dir)
	if err != nil {
		metadata = nil
	}
	s.content = snapshot.ContentOf(dir, s.manifest, metadata)
	return s
}

// validate reads all of the snapshot and fills in problems.
func (s *source) validate(ctx context.Context, requiredTables []string, progress Progress) error {
	result, err := snapshot.ValidateDir(ctx, s.dir, string(s.stamp), snapshot.ValidateOptions{RequiredTables: requiredTables, Progress: progress})
	if err != nil {
		return err
	}
	s.problems = result.Errors
	if !result.Valid && len(s.problems) == 0 {
		s.problems = []string{"nothing of it could be checked"}
	}
	// What a snapshot of a broken store lacks shows only in the judgement that
	// was made when it was taken.
	if m := s.manifest; m != nil && !m.Validation.Valid && len(s.problems) == 0 {
		s.problems = m.Validation.Errors
		if len(s.problems) == 0 {
			s.problems = []string{"it was not valid when it was taken"}
		}
	}
	return nil
}

func (s *source) valid() bool { return len(s.problems) == 0 }

// otherDeployment says how the snapshot's origin differs from this
// configuration; nothing for a snapshot that makes no claim. What AtoCore's own
// metadata say are paths inside its container, which mean nothing here.
func (s *source) otherDeployment(host string, live Live) string {
	m := s.manifest
	if m == nil {
		return ""
	}
	if m.Host != "" && host != "" && m.Host != host {
		return fmt.Sprintf("it was taken on host %q, this is %q", m.Host, host)
	}
	for _, artifact := range []string{snapshot.DB, snapshot.Registry, snapshot.Chroma} {
		was, is := m.Artifacts[artifact].SourcePath, live.path(artifact)
		if m.Artifacts[artifact].Included && was != "" && is != "" && !samePlace(was, is) {
			return fmt.Sprintf("its %s was saved from %s, the configuration says %s", artifact, was, is)
		}
	}
	return ""
}

func (l Live) path(artifact string) string {
	switch artifact {
	case snapshot.DB:
		return l.DB
	case snapshot.Registry:
		return l.Registry
	}
	return l.Chroma
}

func samePlace(a, b string) bool {
	if filepath.Clean(a) == filepath.Clean(b) {
		return true
	}
	realA, errA := filepath.EvalSymlinks(a)
	realB, errB := filepath.EvalSymlinks(b)
	return errA == nil && errB == nil && realA == realB
}

// clip shortens a list of findings for one line.
func clip(findings []string) string {
	if len(findings) > 3 {
		return strings.Join(findings[:3], "; ") + fmt.Sprintf("; and %d more", len(findings)-3)
	}
	return strings.Join(findings, "; ")
}
