package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/internal/fsx/tree"
	"github.com/atocore/atobackupd/snapshot"
)

// Listing is the document of `ls`.
type Listing struct {
	Stamp snapshot.Stamp  `json:"stamp"`
	Files []snapshot.File `json:"files"`
}

// Files lists the files of a local snapshot, as its manifest has them; of one
// that AtoCore's own tools made, as they lie there.
func (a *App) Files(ctx context.Context, name string) (Listing, error) {
	snap, release, err := a.holdNamed(ctx, name)
	if err != nil {
		return Listing{}, err
	}
	defer release()
	files, err := snap.Inventory(ctx)
	return Listing{Stamp: snap.Stamp, Files: append([]snapshot.File{}, files...)}, err
}

// Dump writes one file of a local snapshot to out: the database or the registry
// by name ("db", "registry"), or any file by the path that Files has. It is read
// twice, because its digest is compared before the first byte is written.
func (a *App) Dump(
	ctx context.Context, name, what string, out io.Writer,
) (f snapshot.File, stamp snapshot.Stamp, err error) {
	snap, release, err := a.holdNamed(ctx, name)
	if err != nil {
		return f, "", err
	}
	defer release()
	defer func() { a.confirmRead(ctx, snap.Stamp, err) }()
	if f, err = fileOf(ctx, snap, what); err != nil {
		return f, snap.Stamp, err
	}
	dir, err := tree.Open(snap.Path, a.Owners())
	if err != nil {
		return f, snap.Stamp, err
	}
	defer dir.Close()
	in, err := dir.OpenFile(f.Path)
	if err != nil {
		return f, snap.Stamp, err
	}
	defer in.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, contextReader{ctx, in}); err != nil {
		return f, snap.Stamp, err
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != f.SHA256 {
		return f, snap.Stamp, &failure.Error{Op: "dump", Subject: string(snap.Stamp) + ": " + f.Path,
			Kind: failure.Invalid, Err: errors.New("checksum_mismatch: it is not what was stored"),
			Hint: "see `atobackupd validate " + string(snap.Stamp) +
				"`; `atobackupd vault dump` reads it from a target"}
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return f, snap.Stamp, err
	}
	_, err = io.Copy(out, contextReader{ctx, in})
	return f, snap.Stamp, err
}

// fileOf finds the file of a snapshot that an artifact's name or a path means.
func fileOf(ctx context.Context, snap snapshot.Snapshot, what string) (snapshot.File, error) {
	name := strings.TrimPrefix(filepath.ToSlash(filepath.Clean(what)), "./")
	if what == snapshot.DB || what == snapshot.Registry {
		c := snap.Content()
		name = filepath.ToSlash(map[string]string{snapshot.DB: c.DB, snapshot.Registry: c.Registry}[what])
	}
	files, err := snap.Inventory(ctx)
	if err != nil {
		return snapshot.File{}, err
	}
	no := &failure.Error{Op: "dump", Subject: string(snap.Stamp), Kind: failure.NotFound,
		Err:  fmt.Errorf("it has no file %s", name),
		Hint: "see `atobackupd ls " + string(snap.Stamp) + "`"}
	for _, f := range files {
		switch {
		case f.Path != name:
		case f.Type == snapshot.TypeFile:
			return f, nil
		default:
			no.Kind, no.Err = failure.Usage, fmt.Errorf("%s is a %s, and only files can be written out", name, f.Type)
			no.Hint = "`atobackupd restore " + string(snap.Stamp) + " --to DIR` lays all of it out"
			return f, no
		}
	}
	return snapshot.File{}, no
}

// Compared is the document of `diff`.
type Compared struct {
	From string `json:"from"` // a stamp
	To   string `json:"to"`   // a stamp, or "live"
	snapshot.Difference
}

// Live is what `diff` calls the store as it is now.
const Live = "live"

// liveBusy is how long a count waits for the application's lock.
const liveBusy = 10 * time.Second

// Diff compares a local snapshot with another one or with the live store.
func (a *App) Diff(ctx context.Context, from, to string) (doc Compared, err error) {
	var sides [2]snapshot.Contents
	names := [2]string{from, to}
	for i, name := range names {
		if name == Live {
			sides[i], err = snapshot.LiveContents(ctx, a.sources(), a.Owners(), liveBusy)
			if err != nil {
				return doc, &failure.Error{Op: "diff", Subject: Live, Kind: failure.KindOf(err), Err: err,
					Hint: failure.HintOf(err)}
			}
			continue
		}
		snap, release, err := a.holdNamed(ctx, name)
		if err != nil {
			return doc, err
		}
		defer release()
		names[i] = string(snap.Stamp)
		if sides[i], err = snap.Contents(ctx); err != nil {
			return doc, &failure.Error{Op: "diff", Subject: names[i], Kind: failure.KindOf(err), Err: err,
				Hint: "see `atobackupd validate " + names[i] + "`"}
		}
	}
	return Compared{From: names[0], To: names[1], Difference: snapshot.Diff(sides[0], sides[1])}, nil
}

// holdNamed finds a snapshot by stamp or "latest" and keeps it from being pruned
// until release is called.
func (a *App) holdNamed(ctx context.Context, name string) (snap snapshot.Snapshot, release func(), err error) {
	if snap, err = a.Find(ctx, name, time.Now()); err != nil {
		return snap, nil, err
	}
	hold, err := a.store.LockShared(snap.Stamp)
	if err != nil {
		return snap, nil, err
	}
	return snap, func() { hold.Unlock() }, nil
}

// contextReader ends a long read when its context ends.
type contextReader struct {
	ctx context.Context
	in  io.Reader
}

// Read reads from the reader until the context has ended.
func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.in.Read(p)
}
