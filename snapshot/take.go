package snapshot

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot/chroma"
)

// Sources are the live artifacts. Registry and Chroma may be empty: then there
// is none.
type Sources struct {
	DB, Registry, Chroma string
	RequiredTables       []string
}

// TakeOptions says how a snapshot is taken.
type TakeOptions struct {
	Kind        Kind
	Full        bool   // with Chroma
	Host        string // recorded in the manifest
	ToolVersion string
	MinFree     int64 // bytes that must stay free
	Share       Share // with the live files and the last snapshots

	Chroma chroma.Options // how Chroma is copied; Share and Scratch are set by Take

	// Tolerant is for the snapshot before a restore: what is corrupt or missing
	// is saved raw as it is, and the snapshot is published as invalid.
	Tolerant bool

	// Proven, which may be nil, is what the same run has validated just now: an
	// artifact with the same bytes is not checked again.
	Proven *Proven

	// RecordAs are the live paths that the manifest names, where the sources are
	// copies of them that lie elsewhere; the zero value names the sources.
	RecordAs Sources

	// Owners are the users whose links on the way to the live artifacts are
	// followed; nil is root and the caller.
	Owners tree.Owners

	Note string // why, in the operator's words

	Progress fsx.Progress // may be nil
}

// stagingHint is for what fails when the backup directory cannot be written.
const stagingHint = "this process must be able to write under backup.dir"

// Take makes one snapshot of the sources: staged, copied, digested, validated,
// made durable and published under the stamp of the second in which it began.
// It holds every transaction that was committed before Take was called. On any
// error nothing is published; a snapshot that fails its validation is moved to
// quarantine/ and the error is of kind Invalid. The caller holds the main lock.
func (s *Store) Take(ctx context.Context, src Sources, o TakeOptions) (Snapshot, error) {
	from, err := openSources(src, o.Full, o.Owners)
	if err != nil {
		return Snapshot{}, err
	}
	defer from.close()
	if err := s.preflight(ctx, src, from, o); err != nil {
		return Snapshot{}, err
	}
	t := &takeRun{store: s, src: src, from: from, o: o, started: time.Now().UTC()}
	stamp, err := s.freeStamp(ctx, t.started)
	if err != nil {
		return Snapshot{}, err
	}
	return s.run(ctx, t, stamp)
}

// run stages, fills and publishes a snapshot.
func (s *Store) run(ctx context.Context, t *takeRun, stamp Stamp) (_ Snapshot, err error) {
	t.live = make(map[string]File)
	if t.dir, err = fsx.MkdirTemp(s.staging(), string(stamp)+".", 0o750); err != nil {
		return Snapshot{}, takeFailure(
			stamp,
			&failure.Error{Op: "backup", Subject: s.staging(), Err: err, Hint: stagingHint},
		)
	}
	defer t.cleanUp()
	if err := t.fill(ctx, stamp); err != nil {
		return Snapshot{}, takeFailure(stamp, err)
	}
	return t.publish(ctx, stamp)
}

// takeFailure says what was being done when err happened, where err does not.
func takeFailure(stamp Stamp, err error) error {
	var f *failure.Error
	switch known := errors.As(err, &f); {
	case isNoSpace(err) && failure.KindOf(err) != failure.NoSpace:
		return &failure.Error{
			Op:      "backup",
			Subject: string(stamp),
			Kind:    failure.NoSpace,
			Err:     err,
			Hint:    "free some space under backup.dir and take it again",
		}
	case known, failure.KindOf(err) == failure.Interrupted:
		return err
	}
	return &failure.Error{Op: "backup", Subject: string(stamp), Err: err}
}

// freeStamp returns the stamp of now, or of a later second while one exists. It
// does not wait for that second to end: Take comes back here if somebody else
// uses it first.
func (s *Store) freeStamp(ctx context.Context, now time.Time) (Stamp, error) {
	for {
		stamp := StampOf(now)
		if !exists(s.Path(stamp)) && !exists(filepath.Join(s.quarantine(), string(stamp))) {
			return stamp, nil
		}
		now = now.Truncate(time.Second).Add(time.Second)
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(time.Until(now)):
		}
	}
}

// takeRun is one run of Take.
type takeRun struct {
	store    *Store
	src      Sources
	from     *held
	stored   bool // the sources lie in a foreign snapshot, where nothing is written
	o        TakeOptions
	started  time.Time
	dir      string // in staging/
	manifest *Manifest
	live     map[string]File // the live files, by their path in the snapshot
	copied   []File          // what was digested beside the checks
	result   Result          // of judging the copies
	judging  time.Duration   // what that took
}

// cleanUp leaves nothing in staging/. What it cannot remove goes with the next
// Sweep.
func (t *takeRun) cleanUp() {
	if exists(t.dir) { // not once it was published
		_ = fsx.RemoveAll(t.dir)
	}
}

// recorded returns the live places of the artifacts, which the manifest names.
func (t *takeRun) recorded() Sources {
	if t.o.RecordAs.DB != "" {
		return t.o.RecordAs
	}
	return t.src
}

// path is where something of the snapshot is staged.
func (t *takeRun) path(name string) string { return filepath.Join(t.dir, filepath.FromSlash(name)) }

// fill copies the artifacts into the staging directory, judges the copies and
// completes the manifest.
func (t *takeRun) fill(ctx context.Context, stamp Stamp) error {
	t.manifest = &Manifest{
		Schema: Schema, Stamp: stamp, Kind: t.o.Kind, Host: t.o.Host, ToolVersion: t.o.ToolVersion,
		StartedAt: t.started, Artifacts: map[string]Artifact{}, Roots: map[string]Root{}, Note: t.o.Note,
		Suspect: []string{},
	}
	t.result = newResult(string(stamp), t.dir)
	if err := t.copyArtifacts(ctx); err != nil {
		return err
	}
	if err := t.inventory(ctx); err != nil {
		return err
	}
	if err := t.shareSpace(ctx); err != nil {
		return err
	}
	if !t.o.Tolerant && !t.stored {
		if err := t.suspect(ctx); err != nil {
			return err
		}
	}
	t.manifest.Validation = Validation{
		Valid: len(t.result.Errors) == 0, Errors: t.result.Errors, Warnings: t.result.Warnings,
		CheckedAt: time.Now().UTC(), DurationMS: t.judging.Milliseconds(),
	}
	return nil
}

// copyArtifacts copies and judges the artifacts side by side: most of the work is
// that of one core for each of the two databases. While the application is frozen
// nothing but Chroma is copied, for the database may be locked until it is thawed.
func (t *takeRun) copyArtifacts(ctx context.Context) error {
	group, copying := errgroup.WithContext(ctx)
	if t.o.Chroma.Method == chroma.MethodFreeze {
		group.SetLimit(1)
	}
	var parts []*takeRun
	for _, copyOne := range []func(*takeRun, context.Context) error{
		(*takeRun).copyDB,
		(*takeRun).copyRegistry,
		(*takeRun).copyChroma,
	} {
		part := t.part()
		parts = append(parts, part)
		group.Go(func() error {
			if err := copying.Err(); err != nil {
				return err
			}
			return copyOne(part, copying)
		})
	}
	if err := group.Wait(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	for _, part := range parts {
		t.add(part)
	}
	if err := t.from.stillThere(); err != nil {
		return err
	}
	return ctx.Err()
}

// part returns a run that copies into the same directory and keeps what it finds
// to itself, until add.
func (t *takeRun) part() *takeRun {
	p := *t
	p.manifest = &Manifest{Artifacts: map[string]Artifact{}, Roots: map[string]Root{}}
	p.live, p.result = map[string]File{}, newResult(t.result.Stamp, t.dir)
	return &p
}

func (t *takeRun) add(part *takeRun) {
	maps.Copy(t.manifest.Artifacts, part.manifest.Artifacts)
	maps.Copy(t.manifest.Roots, part.manifest.Roots)
	maps.Copy(t.live, part.live)
	t.copied = append(t.copied, part.copied...)
	if part.manifest.DB != nil {
		t.manifest.DB = part.manifest.DB
	}
	t.result.add(part.result)
	t.judging += part.judging
}

// digestCopies digests the final copies of an artifact, below a name in the staging
// directory. It runs beside their checks, which keep one core busy.
func (t *takeRun) digestCopies(ctx context.Context, name string) error {
	files, err := scan(t.dir, name)
	if err != nil {
		return err
	}
	var known []File
	t.copied = slices.DeleteFunc(files, func(f File) bool {
		if t.linked(f.Path) {
			known = append(known, t.o.Proven.files[f.Path])
			return true
		}
		return false
	})
	err = digest(ctx, t.dir, t.copied, t.o.Progress.Prefix(name), nil)
	t.copied = append(t.copied, known...)
	return err
}

// inventory lists what was staged with its digests, and with what the live files
// have besides their bytes.
func (t *takeRun) inventory(ctx context.Context) error {
	files, err := scan(t.dir, ".")
	if err != nil {
		return err
	}
	digests := make(map[string]string, len(files))
	for _, f := range t.copied {
		digests[f.Path] = f.SHA256
	}
	rest := slices.DeleteFunc(slices.Clone(files), func(f File) bool { return digests[f.Path] != "" })
	if err := digest(ctx, t.dir, rest, t.o.Progress, nil); err != nil {
		return err
	}
	for _, f := range rest {
		digests[f.Path] = f.SHA256
	}
	for i, f := range files {
		files[i].SHA256 = digests[f.Path]
		if live, ok := t.live[f.Path]; ok {
			files[i].Mode, files[i].UID, files[i].GID, files[i].MTime = live.Mode, live.UID, live.GID, live.MTime
		}
	}
	t.manifest.Files = files
	return nil
}
