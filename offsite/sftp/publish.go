package sftp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/pkg/sftp"
)

// publish gives an upload its final name, durably and without replacing.
func (r *Remote) publish(temp, name string) error {
	if !r.cfg.AppendOnly {
		return r.rename(temp, name)
	}
	if !r.has(extHardlink) {
		return local{errors.New("the server has no " + extHardlink + ", which an append-only target needs")}
	}
	// The upload keeps its name in incoming/ too: this account cannot remove it.
	if err := r.exists(r.client.Link(r.at(temp), r.at(name)), name); err != nil {
		return err
	}
	return r.syncDir(path.Dir(name))
}

// rename moves an object durably.
func (r *Remote) rename(from, to string) error {
	if err := r.renameNoReplace(from, to); err != nil {
		return err
	}
	// The new name first: a power cut in between leaves two names, never none.
	if err := r.syncDir(path.Dir(to)); err != nil {
		return err
	}
	return r.syncDir(path.Dir(from))
}

// renameNoReplace: OpenSSH refuses to replace, in one step. More lenient servers
// replace, so it is looked for first, and nobody else of this connection may come
// in between.
func (r *Remote) renameNoReplace(from, to string) error {
	r.renaming.Lock()
	defer r.renaming.Unlock()
	if err := r.absent(to); err != nil {
		return err
	}
	return r.exists(r.client.Rename(r.at(from), r.at(to)), to)
}

// exists turns the answers by which servers refuse to replace name into
// fs.ErrExist.
func (r *Remote) exists(err error, name string) error {
	if isExists(err) || isFailure(err) && errors.Is(r.absent(name), fs.ErrExist) {
		return fs.ErrExist
	}
	return err
}

// Move renames an object durably and never replaces one. Missing parents of the
// new name are made.
func (r *Remote) Move(ctx context.Context, from, to string) error {
	o, err := r.begin(ctx, "move", from, to)
	if err != nil {
		return err
	}
	return o.end(r.move(from, to))
}

func (r *Remote) move(from, to string) error {
	if r.cfg.AppendOnly {
		return errAppendOnly
	}
	if err := r.watch.broken(); err != nil {
		return err
	}
	if _, err := r.lstat(from); err != nil {
		return err
	}
	if err := r.makeDir(path.Dir(to)); err != nil {
		return err
	}
	return r.rename(from, to)
}

// sync flushes an open file or directory to the server's disk. A server that
// knows no such request is lived with: every push begins by comparing the names
// and sizes on it, so what a power cut there took is sent again.
func (r *Remote) sync(f *sftp.File) error {
	if !r.has(extFsync) || r.noFlush.Load() {
		return nil
	}
	err := f.Sync()
	if isUnsupported(err) {
		r.noFlush.Store(true)
		return nil
	}
	return err
}

// syncDir makes the names in one of the vault's directories durable.
func (r *Remote) syncDir(dir string) error { return r.syncPath(r.at(dir)) }

// syncPath flushes a directory. The protocol has no such request, but OpenSSH
// opens a directory like a file and then syncs its handle. Other servers, which
// open none, are lived with as sync says.
func (r *Remote) syncPath(dir string) error {
	if !r.has(extFsync) || r.noFlush.Load() || r.noDirFlush.Load() {
		return nil
	}
	d, err := r.client.Open(dir)
	if err == nil {
		err = d.Sync()
		if e := d.Close(); err == nil {
			err = e
		}
	}
	if err != nil && answered(err) && !errors.Is(err, fs.ErrNotExist) {
		r.noDirFlush.Store(true)
		return nil
	}
	if err != nil {
		return fmt.Errorf("flushing %s: %w", dir, err)
	}
	return nil
}

// Lacks says in sentences what the server cannot do, as far as it was found out
// on this connection.
func (r *Remote) Lacks() (all []string) {
	switch {
	case !r.has(extFsync) || r.noFlush.Load():
		all = append(
			all, "the server cannot flush to disk: what a power cut there takes is sent again by the next sync",
		)
	case r.noDirFlush.Load():
		all = append(
			all,
			"the server cannot flush directories to disk: what a power cut there takes is sent again by the next sync",
		)
	}
	if !r.has(extStatVFS) || r.noStatVFS.Load() {
		all = append(all, "the server does not say how much space is free")
	}
	return all
}
