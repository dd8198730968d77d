package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/atocore/atobackupd/offsite"
)

// Move copies an object on the server and removes it under its old name. It
// never replaces. Killed in between it leaves both; asked again it goes on.
func (r *Remote) Move(ctx context.Context, from, to string) error {
	if err := r.check(ctx, "move", from, to); err != nil {
		return err
	}
	return r.explain("move", from+" to "+to, r.move(ctx, from, to))
}

func (r *Remote) move(ctx context.Context, from, to string) error {
	r.forgetTree() // whoever moves looks again at what others did
	o, err := r.look(ctx, from)
	if err != nil {
		return err
	}
	if o.Dir {
		return local{errors.New("it is a directory")}
	}
	if from == to {
		return fs.ErrExist
	}
	// A lock would keep the old name: better none of it than half.
	if until, err := r.lockOf(ctx, from, o.version); err != nil || until.After(time.Now()) {
		return errors.Join(err, lockedUntil(until))
	}
	there, err := r.look(ctx, to)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := r.copy(ctx, from, o, to); err != nil {
			return err
		}
	case err != nil:
		return err
	case there.Dir || there.Size != o.Size || there.etag != o.etag:
		return fs.ErrExist
	}
	return r.removeAll(ctx, from, o)
}

func (r *Remote) copy(ctx context.Context, from string, o object, to string) error {
	destination := minio.CopyDestOptions{Bucket: r.cfg.Bucket, Object: r.cfg.key(to)}
	until := r.lockUntil(to, time.Now())
	if !until.IsZero() {
		destination.Mode, destination.RetainUntilDate = minio.Compliance, until
	}
	_, err := r.core.Client.CopyObject(
		ctx, destination,
		minio.CopySrcOptions{Bucket: r.cfg.Bucket, Object: r.cfg.key(from), VersionID: o.version},
	)
	if err == nil {
		r.forget(to)
		r.state.locked(to, until)
	}
	return err
}

// Remove deletes an object with all its versions and markers. One whose lock has
// not ended stays as it is, with offsite.ErrLocked.
func (r *Remote) Remove(ctx context.Context, name string) error {
	if err := r.check(ctx, "remove", name); err != nil {
		return err
	}
	return r.explain("remove", name, r.remove(ctx, name))
}

func (r *Remote) remove(ctx context.Context, name string) error {
	if until := r.state.lock(name); until.After(time.Now()) {
		return lockedUntil(until) // known here: it costs no request
	}
	r.mu.Lock()
	o, known := r.known[name]
	r.mu.Unlock()
	if !known {
		var err error
		if o, err = r.look(ctx, name); err != nil {
			return err
		}
	}
	if o.Dir {
		return local{errors.New("the directory is not empty")}
	}
	return r.removeAll(ctx, name, o)
}

// Removable returns offsite.ErrLocked where an object's lock has not ended.
func (r *Remote) Removable(ctx context.Context, name string) error {
	if err := r.check(ctx, "remove", name); err != nil || !r.state.ObjectLock {
		return err
	}
	until := r.state.lock(name)
	if until.IsZero() {
		o, err := r.find(ctx, name)
		if err == nil {
			until, err = r.lockOf(ctx, name, o.version)
		}
		if err != nil {
			return r.explain("remove", name, err)
		}
		r.state.locked(name, until)
	}
	if until.After(time.Now()) {
		return r.explain("remove", name, lockedUntil(until))
	}
	return nil
}

// removeAll deletes o, which must be first because only its lock counts, and then
// what others have put over it.
func (r *Remote) removeAll(ctx context.Context, name string, o object) error {
	if err := r.removeVersion(ctx, name, o.version); err != nil {
		return err
	}
	r.mu.Lock()
	delete(r.known, name)
	r.mu.Unlock()
	r.changed(name, nil)
	r.state.locked(name, time.Time{})
	if o.alone {
		return nil
	}
	return r.removeExcept(ctx, name, o.version)
}

// Uncover removes every version and marker of name but the oldest version.
func (r *Remote) Uncover(ctx context.Context, name string) error {
	if err := r.check(ctx, "uncover", name); err != nil {
		return err
	}
	r.forgetTree()
	o, err := r.look(ctx, name)
	if err == nil && !o.Dir && o.version != "" {
		err = r.removeExcept(ctx, name, o.version)
	}
	return r.explain("uncover", name, err)
}

// removeExcept removes the other versions of name, and all markers.
func (r *Remote) removeExcept(ctx context.Context, name, keep string) error {
	defer r.forget(name)
	for info, err := range r.versionsOf(ctx, name) {
		if err != nil {
			return err
		}
		if info.VersionID == keep {
			continue
		}
		// A thief's own version may be locked, and harms nobody.
		if err := r.removeVersion(ctx, name, info.VersionID); err != nil && !errors.Is(err, offsite.ErrLocked) {
			return err
		}
	}
	return nil
}

func (r *Remote) removeVersion(ctx context.Context, name, version string) error {
	err := r.core.RemoveObject(ctx, r.cfg.Bucket, r.cfg.key(name), minio.RemoveObjectOptions{VersionID: version})
	if err == nil || missing(err) {
		return nil
	}
	// Services word this refusal differently; the lock itself is the same.
	if until, e := r.lockOf(ctx, name, version); e == nil && until.After(time.Now()) {
		r.state.locked(name, until)
		return lockedUntil(until)
	}
	return err
}

// lockedUntil is nil for the zero time.
func lockedUntil(until time.Time) error {
	if until.IsZero() {
		return nil
	}
	return fmt.Errorf("%w until %s", offsite.ErrLocked, until.UTC().Format(time.RFC3339))
}
