package offsite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/atocore/atobackupd/crypt"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx"
	"github.com/atocore/atobackupd/snapshot"
)

// Source is a local snapshot that is to be shipped.
type Source struct {
	Dir   string // the snapshot directory
	Info  Info   // without Seq
	Files []snapshot.File
	Host  string
}

// PushOptions says how a snapshot is shipped.
type PushOptions struct {
	Recipients *crypt.Recipients
	Signer     *crypt.Signer
	Seq        int64  // of this push: above every earlier one
	Level      string // "fastest", "default" or "better"

	// StateDir keeps what this machine knows of the target (see StateDir): the
	// map, and what is left of interrupted pushes. BaseDir keeps hard links to
	// the files that base pages came from, on the snapshots' file system. Each
	// belongs to one target. Losing them costs bytes, never correctness.
	StateDir, BaseDir string

	// RebaseRatio bounds the patch packs that a snapshot refers to, as a part
	// of its base packs; 0 is 0.5. Rebase sends a new base whatever the ratio.
	RebaseRatio float64
	Rebase      bool

	// Damaged are packs, by id, that somebody found damaged: what lies in them
	// counts as lost, and is sent anew.
	Damaged map[string]bool

	Progress fsx.Progress
}

const defaultRebaseRatio = 0.5

// BaseFile is a file that PushOptions.BaseDir keeps.
type BaseFile struct {
	Push PushID
	Path string // in the snapshot of the push
}

// In returns where it lies below a BaseDir.
func (f BaseFile) In(dir string) string { return baseDir(dir).path(f.Push, f.Path) }

// Pushed is what a push sent.
type Pushed struct {
	Stamp      snapshot.Stamp `json:"stamp"`
	Packs      int            `json:"packs"` // that it sent
	Bytes      int64          `json:"bytes"` // of those packs and the manifest, as stored
	Base       bool           `json:"base"`  // base pages were sent
	DurationMS int64          `json:"duration_ms"`
	Push       PushID         `json:"-"`
	Seq        int64          `json:"-"`

	// Warnings tell what made this push larger than it had to be. Damage tells
	// which packs of the vault had gone or shrunk: what this snapshot needs of
	// them was sent anew, but older snapshots have lost it.
	Warnings []string `json:"-"`
	Damage   []string `json:"-"`

	// Rotten are base files in which a page is not what it was when they were kept.
	// It was sent anew; a snapshot of this machine may share the file.
	Rotten []BaseFile `json:"-"`

	// Sizes are those of the packs that the snapshot needs, by id.
	Sizes map[string]int64 `json:"-"`
}

// chunkPages is what is read from a file at once: 1 MiB.
const chunkPages = 256

// Push brings one snapshot into the vault: packs, manifest, json, SHA256SUMS
// and, when every pack was seen once more on the remote with its size, the
// signature. Each is durable before the next, so the snapshot exists whole or
// not at all. Only what differs from the last push goes, as patches against the
// base. Every file is digested as it is read and compared with its manifest:
// rot is not shipped.
//
// A push that was interrupted goes on with what has arrived when the same
// snapshot is pushed again. The caller holds the target's lock.
func (v *Vault) Push(ctx context.Context, src Source, o PushOptions) (pushed Pushed, err error) {
	start := time.Now()
	w, err := v.newPusher(src, o)
	if err != nil {
		return pushed, err
	}
	defer w.close()
	done, ok := loadSealed(o.StateDir, src.Info.Stamp, w.header())
	ok = ok && !o.Rebase && !slices.ContainsFunc(done.Packs, func(p packRef) bool { return o.Damaged[p.ID] })
	if ok {
		err = w.publish(ctx, done)
	}
	if !ok || errors.Is(err, errPacksGone) {
		if done, err = w.build(ctx); err == nil {
			err = w.publish(ctx, done)
		}
	}
	if err != nil {
		return pushed, err
	}
	pushed = done.Pushed
	pushed.Push, pushed.Seq, pushed.Warnings, pushed.Damage = done.Push, done.Seq, done.Warnings, done.Damage
	pushed.DurationMS = time.Since(start).Milliseconds()
	for _, f := range w.files {
		if f != nil && f.baseRotten.Load() {
			pushed.Rotten = append(pushed.Rotten, BaseFile{Push: f.last.Link, Path: f.Path})
		}
	}
	pushed.Sizes = make(map[string]int64, len(done.Packs))
	for _, p := range done.Packs {
		pushed.Sizes[p.ID] = p.Size
	}
	return pushed, nil
}

// pusher is one push under way.
type pusher struct {
	vault   *Vault
	src     Source
	o       PushOptions
	base    baseDir
	entries []FileEntry // without runs: those are written straight to the manifest
	files   []*pushFile // of each entry; nil for what is no regular file
	last    *pageMap    // nil: nothing is known
	hasher  *pageHasher // the old map's, for its digests are compared with
	mode    mode
	spool   *spool
	records recordFile // of this snapshot's pages, under construction
	packer  *packer
	level   level
	bad     map[uint32]bool // packs of the map that are not there whole

	progress progress
	warnings []string
	damage   []string
}

// pushFile is a regular file of the snapshot.
type pushFile struct {
	index int // into the entries
	*FileEntry
	first    int64       // its first record
	pages    int64       // how many it has
	last     *mappedFile // the last pushed version; nil: it gets a base of its own
	newBase  bool        // last is nil, or was not good enough
	damaged  bool        // a pack that holds a page of last is gone
	baseSent atomic.Bool // a base page of it was sent

	baseRotten atomic.Bool // a page of the base file is not what the map says
}

// newPusher looks at the snapshot and at what this machine knows of the target.
func (v *Vault) newPusher(src Source, o PushOptions) (w *pusher, err error) {
	if o.RebaseRatio <= 0 {
		o.RebaseRatio = defaultRebaseRatio
	}
	level, err := parseLevel(o.Level)
	if err != nil {
		return nil, err
	}
	w = &pusher{
		vault: v, src: src, o: o, base: baseDir(o.BaseDir), level: level,
		progress: progress{step: string(src.Info.Stamp), tell: o.Progress},
	}
	first := int64(0)
	for _, f := range src.Files {
		if f.Path == snapshot.MetadataFile { // carried by the manifest
			continue
		}
		w.entries = append(w.entries, FileEntry{File: f})
	}
	w.files = make([]*pushFile, len(w.entries))
	for i := range w.entries {
		e := &w.entries[i]
		if e.Type != snapshot.TypeFile {
			continue
		}
		w.files[i] = &pushFile{index: i, FileEntry: e, first: first, pages: pages(e.Size)}
		first += pages(e.Size)
		w.progress.total += e.Size
	}
	m := Manifest{Format: FormatVersion, Stamp: src.Info.Stamp, PageSize: PageSize, Files: w.entries}
	if _, err := snapshot.ParseStamp(string(src.Info.Stamp)); err != nil {
		return nil, err
	}
	if err := m.check(src.Info.Stamp); err != nil {
		return nil, sourceError(
			&failure.Error{
				Op: "push", Subject: src.Dir, Kind: failure.Invalid, Err: err, Hint: "a vault cannot hold it",
			},
		)
	}
	if err := w.openMap(); err != nil || w.last != nil {
		return w, err
	}
	w.hasher, err = newPageHasher(nil)
	return w, err
}

func (w *pusher) close() {
	w.last.Close()
	if w.records.File != nil {
		w.records.Close()
	}
	if w.spool != nil {
		w.spool.close()
	}
}

func (w *pusher) mapPath() string { return filepath.Join(w.o.StateDir, mapName) }

// openMap opens the map, unless it is of another vault or of packs that the
// recipients of today could not open. One that cannot be used is as good as
// none: a new base is sent.
func (w *pusher) openMap() error {
	m, err := openMap(w.mapPath())
	switch {
	case errors.Is(err, errNoMap):
		return nil
	case isDir(w.mapPath()): // which the new map could not replace
		return &failure.Error{Op: "target state", Subject: w.mapPath(), Err: errors.New("a directory lies in its place"),
			Hint: "move it away: the next sync sends a new base"}
	case err != nil:
		w.warn("%v: a new base is sent", err)
		return nil
	}
	if m.VaultID != w.vault.Info.ID || m.Recipients != w.o.Recipients.Fingerprint() || w.o.Rebase {
		m.Close()
		return nil
	}
	w.last, w.hasher = m, m.hasher
	return nil
}

func isDir(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.IsDir()
}

func (w *pusher) warn(format string, args ...any) {
	w.warnings = append(w.warnings, fmt.Sprintf(format, args...))
}

// header says what a spool must be about to be of use.
func (w *pusher) header() journalHeader {
	h := journalHeader{
		VaultID: w.vault.Info.ID, Recipients: w.o.Recipients.Fingerprint(), Files: digestFiles(w.entries),
	}
	for _, f := range w.files {
		based := PushID("")
		if f != nil && f.last != nil {
			based = f.last.Based
		}
		h.Based = append(h.Based, based)
	}
	return h
}

// build ships the packs and spools everything that is left to be published.
func (w *pusher) build(ctx context.Context) (done *sealed, err error) {
	have, err := w.vault.packSizes(ctx)
	if err != nil {
		return nil, err
	}
	if err := w.plan(ctx, have); err != nil {
		return nil, err
	}
	if _, err := os.Lstat(filepath.Join(spoolPath(w.o.StateDir, w.src.Info.Stamp), spoolSealed)); err == nil {
		// It was sealed and cannot be published. Its names may be taken on the
		// remote by other bytes than those that are made now.
		if err := fsx.RemoveAll(spoolPath(w.o.StateDir, w.src.Info.Stamp)); err != nil {
			return nil, err
		}
	}
	if w.spool, err = openSpool(w.o.StateDir, w.src.Info.Stamp, w.header()); err != nil {
		return nil, err
	}
	if err := w.sendPacks(ctx, have); err != nil {
		return nil, err
	}
	return w.seal(ctx)
}
