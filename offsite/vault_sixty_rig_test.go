//go:build rig

package offsite_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atocore/atobackupd/internal/provetest"
	"github.com/atocore/atobackupd/offsite"
	"github.com/atocore/atobackupd/offsite/s3"
	"github.com/atocore/atobackupd/retention"
	"github.com/atocore/atobackupd/snapshot"
)

// TestRigSixtyDaysInABucket is TestSixtyDays on a real S3 server, whose clock is
// that of the simulation: each day a push, a prune and a verify, and everything
// that is listed can be fetched.
func TestRigSixtyDaysInABucket(t *testing.T) {
	r := bareRig(t)
	bucket := &clocked{Retainer: newBucket(t), now: stampOf(0).Time(), times: map[string]time.Time{}}
	r.open(bucket)
	r.options = func(o *offsite.PushOptions) { o.RebaseRatio = 0.05 } // so that patches are consolidated, too
	random := rand.New(rand.NewPCG(60, 1))
	s := newStore(60)
	s.moving = true
	policy := retention.Policy{Daily: 7, Weekly: 4, Monthly: 6, MaxDeleteFraction: 0.5}
	sources := make(map[snapshot.Stamp]offsite.Source)
	removed := 0
	for n := range 60 {
		bucket.now = stampOf(n).Time().Add(10 * time.Minute)
		src := r.take(s, stampOf(n), bucket.now.Weekday() == time.Sunday || n == 0)
		sources[src.Info.Stamp] = src
		if pushed := r.push(src); len(pushed.Warnings)+len(pushed.Damage) > 0 {
			t.Errorf("day %d: %+v", n, pushed)
		}
		removed += len(r.prune(bucket.now, policy).Removed)
		if n%6 == 5 {
			stamps := r.wantWhole()
			r.wantPull(sources[stamps[random.IntN(len(stamps))]])
		}
		s.day()
	}
	stamps := r.wantWhole()
	if len(stamps) < 12 || len(stamps) > 17 {
		t.Errorf("%d snapshots are left: %v", len(stamps), stamps)
	}
	if removed == 0 {
		t.Error("nothing was removed for good")
	}
	for _, stamp := range stamps {
		r.wantPull(sources[stamp])
	}
	provetest.Say(t, "in the bucket %d snapshots are left, each of them fetched; %d objects were removed", len(stamps), removed)
	provetest.Points(t, 60)
}

// newBucket starts an S3 server and connects to a new bucket, as atobackupd does.
func newBucket(t *testing.T) *s3.Remote {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	port := l.Addr().(*net.TCPAddr).Port
	must(l.Close())
	server, rig := t.TempDir(), filepath.Join(os.Getenv("ATOBACKUPD_SHARED"), "rig")
	cache, err := os.UserCacheDir()
	must(err)
	up := exec.Command(filepath.Join(rig, "s3-up.sh"), server, fmt.Sprint(port), "versitygw")
	up.Env = append(os.Environ(), "S3_BIN="+filepath.Join(cache, "atobackupd-rig", "s3"))
	if out, err := up.CombinedOutput(); err != nil {
		t.Fatalf("s3-up.sh: %v\n%s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command(filepath.Join(rig, "s3-down.sh"), server).Run() })
	must(os.Mkdir(filepath.Join(server, "data", "vault"), 0o755)) // a directory there is a bucket
	remote, err := s3.Open(t.Context(), s3.Config{
		Name: "bucket", Endpoint: fmt.Sprintf("http://127.0.0.1:%d", port), Bucket: "vault",
		CredentialsFile: filepath.Join(server, "credentials"), ListFor: time.Minute,
		StateFile: filepath.Join(t.TempDir(), "s3.json"),
	})
	must(err)
	return remote
}

// clocked dates every object by the simulation's clock.
type clocked struct {
	offsite.Retainer
	now time.Time

	mu    sync.Mutex
	times map[string]time.Time
}

// Time is that of the process: the caller tells the vault the simulation's, and
// only the difference between the two machines is asked for.
func (c *clocked) Time() time.Time { return time.Now() }

func (c *clocked) at(name string, e *offsite.Entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at, ok := c.times[name]; ok {
		e.MTime = at
	}
}

func (c *clocked) set(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.times[name] = c.now
}

func (c *clocked) List(ctx context.Context, dir string) ([]offsite.Entry, error) {
	list, err := c.Retainer.List(ctx, dir)
	for i := range list {
		c.at(strings.TrimPrefix(path.Join(dir, list[i].Name), "./"), &list[i])
	}
	return list, err
}

func (c *clocked) Stat(ctx context.Context, name string) (offsite.Entry, error) {
	e, err := c.Retainer.Stat(ctx, name)
	c.at(name, &e)
	return e, err
}

func (c *clocked) Put(ctx context.Context, name string, r io.Reader) (int64, error) {
	c.set(name)
	return c.Retainer.Put(ctx, name, r)
}

func (c *clocked) Move(ctx context.Context, from, to string) error {
	c.set(to)
	return c.Retainer.Move(ctx, from, to)
}
