package s3

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/lifecycle"

	"github.com/atocore/atobackupd/internal/fsx"
)

// state is what this machine knows of a bucket: kept, because asking costs
// requests. It decides no more than how to ask.
type state struct {
	Where       string               `json:"where"` // endpoint, bucket and prefix that it is about
	Checked     time.Time            `json:"checked"`
	Versions    bool                 `json:"versions"`    // the bucket keeps versions
	ObjectLock  bool                 `json:"object_lock"` // objects can be locked
	Asked       bool                 `json:"asked"`       // Conditional was tried
	Conditional bool                 `json:"conditional"` // a put can refuse to replace
	Lifecycle   []string             `json:"lifecycle"`   // rules that delete what a vault needs
	Locks       map[string]time.Time `json:"locks"`       // until when objects are locked, by name

	mu      sync.Mutex
	probing sync.Mutex // one finds out, the others wait
	changed bool       // since it was read or saved
	path    string
}

// checkEvery is how long a service is taken to stay as it was found.
const checkEvery = 7 * 24 * time.Hour

// maxState bounds what is read of a state file.
const maxState = 256 << 20

// loadState reads the state file. One that is missing, unreadable or about
// another place is as good as none.
func loadState(cfg Config) *state {
	s := &state{}
	where := cfg.Endpoint + "/" + path.Join(cfg.Bucket, cfg.Prefix)
	if cfg.StateFile != "" {
		if data, err := fsx.ReadRegular(cfg.StateFile, maxState); err == nil && json.Unmarshal(data, s) != nil || s.Where != where {
			s = &state{}
		}
	}
	s.path, s.Where = cfg.StateFile, where
	if s.Locks == nil {
		s.Locks = map[string]time.Time{}
	}
	return s
}

func (s *state) stale(cfg Config, now time.Time) bool {
	age := now.Sub(s.Checked)
	return age < 0 || age > checkEvery
}

func (s *state) save() error {
	if s.path == "" {
		return nil
	}
	if err := fsx.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return err
	}
	s.mu.Lock()
	s.changed = false
	for name, until := range s.Locks {
		if time.Since(until) > 0 {
			delete(s.Locks, name)
		}
	}
	data, err := json.Marshal(s)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return fsx.WriteFile(s.path, data, 0o600)
}

// locked remembers a lock; the zero time forgets it.
func (s *state) locked(name string, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if until.IsZero() {
		delete(s.Locks, name)
		return
	}
	s.Locks[name], s.changed = until, true
}

func (s *state) isChanged() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *state) lock(name string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Locks[name]
}

// Probe asks the service anew what it can do. It writes nothing there.
func (r *Remote) Probe(ctx context.Context) error {
	versions, err := r.core.GetBucketVersioning(ctx, r.cfg.Bucket)
	if err != nil && !lacks(err) {
		return r.explain("connect", "", err)
	}
	if err != nil { // not every service, nor every key, answers that
		first := func(string, minio.ObjectInfo) (bool, error) { return false, nil }
		if err := r.walk(ctx, r.cfg.key("probe"), minio.ListObjectsOptions{MaxKeys: 1}, first); err != nil {
			return r.explain("connect", "", err)
		}
	}
	enabled, _, _, _, err := r.core.GetObjectLockConfig(ctx, r.cfg.Bucket)
	if err != nil && code(err) == "" {
		return r.explain("connect", "", err)
	}
	r.state.Versions = versions.Enabled() || versions.Suspended()
	r.state.ObjectLock = enabled == "Enabled"
	r.state.Asked, r.state.Checked = false, time.Now().UTC()
	rules, err := r.core.GetBucketLifecycle(ctx, r.cfg.Bucket)
	if err != nil && code(err) == "" {
		return r.explain("connect", "", err)
	}
	r.state.Lifecycle = harmful(rules)
	return r.state.save()
}

// lacks reports whether an answer means that a question cannot be asked here.
func lacks(err error) bool {
	switch code(err) {
	case "NotImplemented", "MethodNotAllowed", "AccessDenied", "InvalidRequest", "UnsupportedOperation":
		return true
	}
	return false
}

// harmful names the rules that delete what a vault still needs, whatever part of
// the bucket they are for.
func harmful(rules *lifecycle.Configuration) (all []string) {
	if rules == nil {
		return nil
	}
	for _, rule := range rules.Rules {
		if rule.Status == "Disabled" {
			continue
		}
		if days := max(int(rule.Expiration.Days), rule.AllVersionsExpiration.Days); days > 0 {
			all = append(all, fmt.Sprintf("rule %q deletes objects after %d days", rule.ID, days))
		} else if !rule.Expiration.IsDateNull() {
			all = append(all, fmt.Sprintf("rule %q deletes objects on a date", rule.ID))
		}
		// The object is its name's oldest version, so that one which somebody hid or
		// wrote over is a noncurrent one.
		if days := rule.NoncurrentVersionExpiration.NoncurrentDays; days > 0 {
			all = append(all, fmt.Sprintf("rule %q deletes what somebody hid after %d days", rule.ID, days))
		}
	}
	slices.Sort(all)
	return all
}

// Lacks says in sentences what the service cannot do, as far as it matters to a
// vault, for people who look at a target.
func (r *Remote) Lacks() (all []string) {
	if r.state.Asked && !r.state.Conditional {
		all = append(all, "no conditional put: names are looked for before and after each put")
	}
	switch {
	case !r.state.Versions:
		all = append(all, "the bucket keeps no versions: whoever has the host's key can delete and replace everything "+
			"at once")
	case !r.state.ObjectLock && r.cfg.LockFor > 0:
		all = append(all, "the bucket has no Object Lock, so lock_for has no effect: whoever has the host's key can "+
			"delete every version")
	case r.cfg.LockFor == 0:
		all = append(all, `lock_for is "off": whoever has the host's key can delete every version`)
	}
	for _, rule := range r.state.Lifecycle {
		all = append(all, "lifecycle "+rule+
			": a vault needs old packs for as long as a snapshot names them; remove the rule")
	}
	return all
}
