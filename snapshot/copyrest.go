package snapshot

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot/chroma"
)

func (t *takeRun) copyRegistry(ctx context.Context) error {
	artifact := Artifact{SourcePath: t.recorded().Registry, Consistency: Consistent}
	defer func() { t.manifest.Artifacts[Registry] = artifact }()
	if t.src.Registry == "" {
		return nil
	}
	method := "read"
	data, err := []byte(nil), t.from.noRegistry
	if err == nil {
		err = t.again(ctx, func() (err error) {
			data, err = readRegistry(ctx, t.from.registry)
			return err
		}, func() error { return nil })
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // allowed, and recorded as not included
	}
	if err != nil && t.o.Tolerant && ctx.Err() == nil {
		t.result.fail("registry_invalid_json", "%v", err)
		method, artifact.Consistency = "raw", Unverified
		if t.from.noRegistry != nil {
			return nil // there is nothing that could be saved
		}
		if data, err = t.from.registry.dir.ReadFile(t.from.registry.name, maxRegistry); err != nil {
			return nil // what was told says why
		}
	}
	if err != nil {
		return err
	}
	dst := t.path(RegistryFile)
	if err := fsx.MkdirAll(filepath.Dir(dst), 0o750); err != nil {
		return err
	}
	if err := fsx.WriteFile(dst, data, 0o640); err != nil {
		return err
	}
	artifact.Included, artifact.Method, artifact.Bytes, artifact.Files = true, method, int64(len(data)), 1
	if err := t.root(Registry, filepath.Dir(t.recorded().Registry)); err != nil {
		return err
	}
	return t.keepLive(t.from.registry.dir, t.from.registry.name, RegistryFile)
}

func (t *takeRun) copyChroma(ctx context.Context) error {
	artifact := Artifact{SourcePath: t.recorded().Chroma, Consistency: Consistent}
	defer func() { t.manifest.Artifacts[Chroma] = artifact }()
	if !t.o.Full || t.src.Chroma == "" {
		return nil
	}
	if t.from.noChroma != nil { // the preflight has let it pass: what is there is saved
		t.result.fail("chroma_snapshot_missing", "%v", t.from.noChroma)
		return nil
	}
	t.o.Progress.Tell("chroma", 0, 0)
	if err := t.root(Chroma, t.recorded().Chroma); err != nil {
		return err
	}
	var copied chroma.Copied
	err := t.again(ctx, func() (err error) {
		copied, err = chroma.Copy(ctx, t.from.chroma, t.path(ChromaDir), t.chromaOptions())
		return err
	}, t.dropChroma)
	if err != nil && t.o.Tolerant && ctx.Err() == nil {
		copied, err = t.saveRawChroma(ctx, err)
	}
	if err != nil && failure.KindOf(err) != failure.Invalid {
		return err
	}
	// An invalid copy is there, and its findings say so.
	addChromaFindings(t.path(ChromaDir), copied.Report.Errors, copied.Warnings, &t.result)
	if len(copied.Report.Errors) == 0 && copied.Consistency == Unverified {
		warnUnverified(&t.result)
	}
	artifact.Included, artifact.Method, artifact.Consistency = true, copied.Method, copied.Consistency
	artifact.Bytes, artifact.Files = copied.Bytes, copied.Files
	for _, e := range copied.Entries {
		t.live[ChromaDir+"/"+e.Path] = File{
			Mode:  permissions(e.Mode),
			UID:   int(e.UID),
			GID:   int(e.GID),
			MTime: e.MTime.UTC(),
		}
	}
	info, err := t.from.chroma.Info()
	t.live[ChromaDir] = liveEntry(info)
	return err
}

// saveRawChroma saves a Chroma directory that does not validate, or cannot be
// copied in order, byte for byte: a copy that SQLite has recovered, or made, no
// longer holds what somebody needs who repairs it.
func (t *takeRun) saveRawChroma(ctx context.Context, cause error) (chroma.Copied, error) {
	if failure.KindOf(cause) != failure.Invalid { // else the raw copy's report says it
		t.result.fail("chroma_segment_corrupt", "the live Chroma directory could not be copied in order: %v", cause)
	}
	if err := t.dropChroma(); err != nil {
		return chroma.Copied{}, err
	}
	return chroma.CopyRaw(ctx, t.from.chroma, t.path(ChromaDir), t.chromaOptions())
}

// dropChroma removes what an attempt to copy Chroma has left.
func (t *takeRun) dropChroma() error {
	t.copied = nil
	if dst := t.path(ChromaDir); exists(dst) {
		return fsx.RemoveAll(dst)
	}
	return nil
}

// chromaOptions returns how Chroma is copied here.
func (t *takeRun) chromaOptions() chroma.Options {
	o := t.o.Chroma
	o.Share, o.Scratch = t.o.Share.reflinks(), t.store.staging()
	digestAll := func(ctx context.Context) error { return t.digestCopies(ctx, ChromaDir) }
	if t.o.Proven == nil {
		o.Beside = digestAll
		return o
	}
	if t.mayLink() {
		o.Stored = t.storedChroma
	}
	o.Known = func(ctx context.Context) (bool, error) {
		err := digestAll(ctx)
		return t.o.Proven.holds(ChromaDir, t.copied), err
	}
	return o
}

// root records the directory that held a live artifact.
func (t *takeRun) root(artifact, dir string) error {
	root, err := rootAt(dir, t.from.owners)
	if err != nil && (t.stored || t.o.Tolerant && errors.Is(err, fs.ErrNotExist)) {
		return nil // the live directory of today is only the best that is known
	}
	t.manifest.Roots[artifact] = root
	return err
}

// storedMode returns the permissions of a stored file: those of the live one, which
// AtoCore's own restore copies, without write permission for group and others, who
// could change a good snapshot. The manifest has the mode as it was.
func storedMode(mode uint32) fs.FileMode { return fs.FileMode(mode).Perm()&^0o022 | 0o400 }

// keepLive records what the live file has besides its bytes, and gives the
// stored copy its time and permissions.
func (t *takeRun) keepLive(dir *tree.Dir, liveName, name string) error {
	info, err := dir.Lstat(liveName)
	if err != nil {
		return err
	}
	f := liveEntry(info)
	t.live[name] = f
	if t.linked(name) {
		return nil // as its other name has them
	}
	if err := os.Chmod(t.path(name), storedMode(f.Mode)); err != nil {
		return err
	}
	if err := os.Chtimes(t.path(name), f.MTime, f.MTime); err != nil {
		return err
	}
	return fsx.SyncFile(t.path(name))
}

// treeSize adds up the regular files below dir.
func treeSize(dir string) (bytes int64, files int) {
	for f, err := range walk(dir, ".") {
		if err == nil && f.Type == TypeFile {
			bytes += f.Size
			files++
		}
	}
	return bytes, files
}
