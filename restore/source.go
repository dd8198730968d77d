package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot"
)

// source is the snapshot that is restored.
type source struct {
	dir      string
	at       *tree.Dir // its directory
	stamp    snapshot.Stamp
	manifest *snapshot.Manifest // nil for one that AtoCore's own tools made
	content  snapshot.Content
	files    map[string]snapshot.File // by path; empty without a manifest
	problems []string                 // why it is not valid; none when it is
	proven   *snapshot.Proven         // by validate
}

// openSource opens a snapshot and reads its documents. One that cannot be read
// is taken for missing: validate says what is wrong with it. A directory that is
// not there is fs.ErrNotExist.
func openSource(dir string, stamp snapshot.Stamp, owners tree.Owners) (*source, error) {
	at, err := tree.Open(dir, owners)
	if err != nil {
		return nil, err
	}
	s := &source{dir: dir, at: at, stamp: stamp, files: map[string]snapshot.File{}}
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
	return s, nil
}

func (s *source) close() { s.at.Close() }

// validate reads all of the snapshot and fills in problems. Without chroma, what
// is wrong with the vector store alone is none.
func (s *source) validate(ctx context.Context, chroma bool, o snapshot.ValidateOptions) error {
	result, err := snapshot.ValidateDir(ctx, s.dir, string(s.stamp), o)
	if err != nil {
		return err
	}
	s.problems, s.proven = result.Errors, result.Proven()
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
	if !chroma {
		s.problems = withoutChroma(s.problems)
		return nil
	}
	return s.findUnrestorable()
}

// checkSource returns what stands against restoring a snapshot that is not valid
// or comes from elsewhere.
func (r *Request) checkSource(
	ctx context.Context,
	s *source,
) (refusals []*failure.Error, warnings []string, err error) {
	r.Progress.Tell("validate", 0, 0)
	o := snapshot.ValidateOptions{RequiredTables: r.RequiredTables, Described: r.Described, Progress: r.Progress}
	if err := s.validate(ctx, !r.NoChroma, o); err != nil {
		return nil, nil, err
	}
	switch {
	case s.valid():
	case r.AllowInvalid:
		warnings = append(warnings, s.problems...)
	default:
		refusals = append(refusals, refusal(string(r.Stamp), failure.Invalid,
			fmt.Errorf("the snapshot is not valid: %s", clip(s.problems)),
			"restore another one, or this one all the same with --allow-invalid"))
	}
	switch other := s.otherDeployment(r.Host, r.Live); {
	case other == "" || r.To != "":
	case r.AcceptOtherDeployment:
		warnings = append(warnings, "it comes from another deployment: "+other)
	default:
		refusals = append(refusals, r.refuse(fmt.Errorf("it comes from another deployment: %s", other),
			"to set up this machine from it, add --accept-other-deployment"))
	}
	return refusals, warnings, nil
}

// findUnrestorable adds what a stored Chroma directory holds that no restore
// brings: AtoCore's own snapshots have no manifest that would tell.
func (s *source) findUnrestorable() error {
	if !s.valid() || !s.has(s.content.Chroma, true) {
		return nil
	}
	_, leftOut, err := treeEntries(s, filepath.ToSlash(s.content.Chroma))
	for _, what := range leftOut {
		s.problems = append(s.problems, "file_unexpected: "+what)
	}
	return err
}

// withoutChroma leaves out the findings that are about the vector store alone.
func withoutChroma(problems []string) (rest []string) {
	for _, p := range problems {
		code, text, _ := strings.Cut(p, ": ")
		aboutFile := strings.HasPrefix(code, "file_") || code == "checksum_mismatch"
		if strings.HasPrefix(code, "chroma_") || aboutFile && strings.HasPrefix(text, snapshot.ChromaDir+"/") {
			continue
		}
		rest = append(rest, p)
	}
	return rest
}

func (s *source) valid() bool { return len(s.problems) == 0 }

// has reports whether something of the snapshot is there, as a directory or as a
// file.
func (s *source) has(name string, dir bool) bool {
	info, err := s.at.Lstat(filepath.ToSlash(name))
	return err == nil && (dir && info.IsDir() || !dir && info.IsRegular())
}

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

// attributes returns what a stored entry has besides its bytes: what the manifest
// recorded of the live file, else what the stored copy has.
func (s *source) attributes(e entry) tree.Attributes {
	if f, ok := s.files[e.stored]; ok {
		return tree.Attributes{UID: f.UID, GID: f.GID, Mode: f.Mode, MTime: f.MTime}
	}
	return tree.Attributes{UID: e.info.UID, GID: e.info.GID, Mode: e.info.Mode, MTime: e.info.MTime}
}

// root returns what the manifest recorded of the directory that held an artifact.
func (s *source) root(artifact string) (snapshot.Root, bool) {
	if s.manifest == nil {
		return snapshot.Root{}, false
	}
	root, ok := s.manifest.Roots[artifact]
	return root, ok
}

// isMissing reports whether an error says that something is not there.
func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
