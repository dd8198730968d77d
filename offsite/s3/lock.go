package s3

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"
)

// locks reports whether objects get a lock.
func (r *Remote) locks() bool { return r.cfg.LockFor > 0 && r.state.ObjectLock }

// lockUntil is when the lock of an object that is put now ends, in whole seconds,
// or the zero time for none.
func (r *Remote) lockUntil(name string, now time.Time) time.Time {
	if !r.locks() || unlocked(name) {
		return time.Time{}
	}
	return now.Add(r.cfg.LockFor).UTC().Truncate(time.Second).Add(time.Second)
}

// lockOf asks when the lock of a version ends; the zero time is for none. Where the key
// may not see locks it sees none.
func (r *Remote) lockOf(ctx context.Context, name, version string) (time.Time, error) {
	if !r.state.ObjectLock {
		return time.Time{}, nil
	}
	// By HEAD: the answers to the question for a lock alone are not the same
	// document on every service.
	info, err := r.core.StatObject(ctx, r.cfg.Bucket, r.cfg.key(name), minio.StatObjectOptions{VersionID: version})
	if err != nil || info.Metadata.Get("X-Amz-Object-Lock-Mode") == "" {
		return time.Time{}, err
	}
	return time.Parse(time.RFC3339, info.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date"))
}

// retaining is how many locks are lengthened at once.
const retaining = 8

// Retain lengthens the lock of each named object of which less than half of
// LockFor is left. What this machine knows of locks costs no request; a lock that
// it does not know of is lengthened. An object that is missing is passed over.
func (r *Remote) Retain(ctx context.Context, names []string) error {
	if err := r.check(ctx, "lock", names...); err != nil || !r.locks() {
		return err
	}
	now := time.Now()
	until := r.lockUntil("", now)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(retaining)
	for _, name := range names {
		if !needsLonger(r.state.lock(name), now, r.cfg.LockFor) || unlocked(name) {
			continue
		}
		group.Go(func() error { return r.explain("lock", name, r.lengthen(ctx, name, until)) })
	}
	err := group.Wait()
	return errors.Join(err, r.state.save())
}

// needsLonger reports whether less than half of a lock is left.
func needsLonger(until, now time.Time, lockFor time.Duration) bool {
	return until.Sub(now) < lockFor/2
}

func (r *Remote) lengthen(ctx context.Context, name string, until time.Time) error {
	o, err := r.find(ctx, name)
	if errors.Is(err, fs.ErrNotExist) || o.Dir {
		return nil
	}
	if err != nil {
		return err
	}
	mode := minio.Compliance
	err = r.core.PutObjectRetention(ctx, r.cfg.Bucket, r.cfg.key(name),
		minio.PutObjectRetentionOptions{VersionID: o.version, Mode: &mode, RetainUntilDate: &until})
	if missing(err) {
		return nil
	}
	if err != nil {
		// It may be locked for longer than we ask for, which none may shorten.
		if have, e := r.lockOf(ctx, name, o.version); e != nil || have.Before(until) {
			return err
		}
	}
	r.state.locked(name, until)
	return nil
}
