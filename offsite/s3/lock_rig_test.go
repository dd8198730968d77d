//go:build rig

package s3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/atocore/atobackupd/offsite"
)

// kinds are the servers that every promise is tried on.
var kinds = []string{"minio", "versitygw"}

func store(t *testing.T, r *Remote, name, data string) {
	t.Helper()
	if _, err := r.Put(context.Background(), name, strings.NewReader(data)); err != nil {
		t.Fatal(err)
	}
}

func load(t *testing.T, r *Remote, name string) string {
	t.Helper()
	f, err := r.Open(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestRigThief has the host's keys and tries, by other means than this program,
// all that a bucket with Object Lock may let him: what was stored stays, is read as
// it was, and what he did is told and taken away again.
func TestRigThief(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			ctx := context.Background()
			s := start(t, kind)
			cfg := s.config(t, s.bucket(t, "lock"))
			cfg.LockFor = time.Hour
			r := connect(t, cfg)
			names := []string{"packs/one", "snapshots/a.sig", "vault.json", "packs/two"}
			for _, name := range names {
				store(t, r, name, "good "+name)
			}
			thief := s.admin
			try := func(what string, err error) { t.Logf("%s: %s: %v", kind, what, err) }
			for _, name := range names {
				key := cfg.key(name)
				var version string
				for info := range thief.ListObjectsIter(
					ctx, cfg.Bucket, minio.ListObjectsOptions{Prefix: key, WithVersions: true},
				) {
					version = info.VersionID
				}
				err := thief.RemoveObject(ctx, cfg.Bucket, key, minio.RemoveObjectOptions{VersionID: version})
				try("delete the version of "+name, err)
				if err == nil {
					t.Errorf("%s: a locked version was deleted", name)
				}
				err = thief.RemoveObject(
					ctx, cfg.Bucket, key, minio.RemoveObjectOptions{VersionID: version, GovernanceBypass: true},
				)
				try("delete it with governance bypass", err)
				if err == nil {
					t.Errorf("%s: a locked version was deleted", name)
				}
				mode, soon := minio.Compliance, time.Now().Add(time.Minute)
				err = thief.PutObjectRetention(
					ctx, cfg.Bucket, key,
					minio.PutObjectRetentionOptions{VersionID: version, Mode: &mode, RetainUntilDate: &soon},
				)
				try("shorten its lock", err)
				if err == nil {
					t.Errorf("%s: its lock was shortened", name)
				}
			}
			try("suspend versioning", thief.SuspendVersioning(ctx, cfg.Bucket))
			try(
				"hide packs/one",
				thief.RemoveObject(ctx, cfg.Bucket, cfg.key("packs/one"), minio.RemoveObjectOptions{}),
			)
			try(
				"hide snapshots/a.sig",
				thief.RemoveObject(ctx, cfg.Bucket, cfg.key("snapshots/a.sig"), minio.RemoveObjectOptions{}),
			)
			bad := []byte("bad")
			_, err := thief.PutObject(
				ctx, cfg.Bucket, cfg.key("vault.json"), bytes.NewReader(bad), int64(len(bad)),
				minio.PutObjectOptions{},
			)
			try("write over vault.json", err)
			_, err = thief.PutObject(
				ctx, cfg.Bucket, cfg.key("snapshots/b.sig"), bytes.NewReader(bad), int64(len(bad)),
				minio.PutObjectOptions{},
			)
			try("add a strange signature", err)

			// A new connection: nothing is known from before.
			seen := connect(t, cfg)
			for _, name := range names {
				if got := load(t, seen, name); got != "good "+name {
					t.Errorf("%s reads %q", name, got)
				}
			}
			if list, err := seen.List(ctx, "packs"); err != nil || len(list) != 2 {
				t.Errorf("packs: %v, %v", list, err)
			}
			told := seen.Tampering()
			for _, what := range told {
				t.Logf("told: %s: %s", what.Name, what.What)
			}
			if len(told) != 3 {
				t.Errorf("told %v, want three objects", told)
			}
			if _, err := seen.Put(ctx, "packs/one", strings.NewReader("x")); err == nil {
				t.Error("packs/one was replaced behind its marker")
			}
			for _, what := range told {
				if err := seen.Uncover(ctx, what.Name); err != nil {
					t.Errorf("uncover %s: %v", what.Name, err)
				}
			}
			for _, name := range names {
				info, err := thief.StatObject(ctx, cfg.Bucket, cfg.key(name), minio.StatObjectOptions{})
				if err != nil || info.Size != int64(len("good "+name)) {
					t.Errorf("plain tools see %s as %+v, %v", name, info.Size, err)
				}
			}
			after := connect(t, cfg)
			for _, dir := range []string{".", "packs", "snapshots"} {
				if _, err := after.List(ctx, dir); err != nil {
					t.Error(err)
				}
			}
			if left := after.Tampering(); len(left) > 0 {
				t.Errorf("after it was uncovered: %v", left)
			}
		})
	}
}

// TestRigLocks: a lock keeps an object, is lengthened once less than half of it is
// left and not before, and ends.
func TestRigLocks(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			ctx := context.Background()
			s := start(t, kind)
			cfg := s.config(t, s.bucket(t, "lock"))
			cfg.LockFor = 3 * time.Second
			r := connect(t, cfg)
			store(t, r, "packs/kept", "data")
			store(t, r, "packs/let go", "data")
			for _, err := range []error{
				r.Remove(ctx, "packs/kept"), r.Move(ctx, "packs/kept", "trash/kept"),
				r.Removable(ctx, "packs/kept"),
			} {
				if !errors.Is(err, offsite.ErrLocked) {
					t.Errorf("what is locked: %v, want ErrLocked", err)
				}
			}
			// Another machine, or a lost state file: the service says the same.
			other := cfg
			other.StateFile = ""
			o := connect(t, other)
			for _, err := range []error{
				o.Remove(ctx, "packs/kept"), o.Move(ctx, "packs/kept", "trash/kept"),
				o.Removable(ctx, "packs/kept"),
			} {
				if !errors.Is(err, offsite.ErrLocked) {
					t.Errorf("what is locked, to somebody who did not know: %v, want ErrLocked", err)
				}
			}
			before := r.state.lock("packs/kept")
			if err := r.Retain(ctx, []string{"packs/kept", "packs/nothing"}); err != nil ||
				!r.state.lock("packs/kept").Equal(before) {
				t.Errorf("a fresh lock was lengthened to %v, %v", r.state.lock("packs/kept"), err)
			}
			time.Sleep(time.Until(before.Add(-cfg.LockFor / 3)))
			if err := r.Retain(ctx, []string{"packs/kept"}); err != nil || !r.state.lock("packs/kept").After(before) {
				t.Errorf("an old lock was not lengthened: %v, %v", r.state.lock("packs/kept"), err)
			}
			time.Sleep(time.Until(r.state.lock("packs/let go").Add(time.Second)))
			if err := r.Move(ctx, "packs/let go", "trash/let go"); err != nil {
				t.Errorf("moving what is not locked any more: %v", err)
			}
			if err := r.Remove(ctx, "trash/let go"); err != nil {
				t.Errorf("removing what lies in trash: %v", err)
			}
			if err := o.Remove(ctx, "packs/kept"); !errors.Is(err, offsite.ErrLocked) {
				t.Errorf("the lengthened lock keeps nothing: %v", err)
			}
		})
	}
}
