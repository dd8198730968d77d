package s3

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/atocore/atobackupd/offsite"
)

// Bounds of one listing. A service that never ends one must not hold a job, nor
// fill the memory.
const (
	maxNames    = 1_000_000
	listTimeout = 15 * time.Minute
)

// object is what lies under a name.
type object struct {
	offsite.Entry
	version string // of its oldest version; "" where the bucket keeps none
	etag    string
	alone   bool // there is no other version and no marker
}

// List returns the entries of one directory, sorted by name.
func (r *Remote) List(ctx context.Context, dir string) ([]offsite.Entry, error) {
	if err := r.check(ctx, "list", dir); err != nil {
		return nil, err
	}
	entries, err := r.list(ctx, dir)
	if err != nil {
		return nil, r.explain("list", dir, err)
	}
	return entries, nil
}

func (r *Remote) list(ctx context.Context, dir string) ([]offsite.Entry, error) {
	prefix := r.cfg.key(dir) + "/"
	if prefix == "./" {
		prefix = ""
	}
	found := gathering{}
	err := r.walk(ctx, prefix, 0, func(name string, info minio.ObjectInfo) (bool, error) {
		if name == "" {
			return true, nil // a placeholder that a console made for the directory
		}
		found.add(path.Join(dir, name), info)
		if len(found) > maxNames {
			return false, local{fmt.Errorf("it has more than %d names", maxNames)}
		}
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	var entries []offsite.Entry
	for name, versions := range found {
		if o, ok := r.judge(name, versions); ok {
			entries = append(entries, o.Entry)
		}
	}
	if len(entries) == 0 && dir != "." {
		return nil, fs.ErrNotExist
	}
	slices.SortFunc(entries, func(a, b offsite.Entry) int { return strings.Compare(a.Name, b.Name) })
	return entries, nil
}

// walk calls visit for each object, marker and directory below prefix, with its
// name there; a directory's ends with a slash. It stops when visit returns false.
func (r *Remote) walk(ctx context.Context, prefix string, page int, visit func(string, minio.ObjectInfo) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	options := minio.ListObjectsOptions{Prefix: prefix, WithVersions: r.state.Versions, MaxKeys: page}
	for info := range r.core.ListObjectsIter(ctx, r.cfg.Bucket, options) {
		if info.Err != nil {
			return info.Err
		}
		name, ok := strings.CutPrefix(info.Key, prefix)
		if base := strings.TrimSuffix(name, "/"); !ok || name != "" && (strings.Contains(base, "/") || !validName(base) || base == ".") || info.Size < 0 {
			return local{fmt.Errorf("the service lists the impossible name %q", info.Key)}
		}
		if more, err := visit(name, info); err != nil || !more {
			return err
		}
	}
	return ctx.Err()
}

// gathering holds what a listing shows of each name, the newest version first.
type gathering map[string]*versions

// versions is what lies under one name.
type versions struct {
	dir     bool
	oldest  minio.ObjectInfo // that is no marker
	count   int              // of versions that are no markers
	markers int
	hidden  bool // the newest is a marker
	last    time.Time
}

func (g gathering) add(name string, info minio.ObjectInfo) {
	dir := strings.HasSuffix(info.Key, "/")
	v := g[name]
	if v == nil {
		v = &versions{}
		g[name] = v
	}
	switch {
	case dir:
		v.dir = true
		return
	case info.IsDeleteMarker:
		v.markers++
		v.hidden = v.hidden || info.IsLatest
	default:
		v.count++
		v.oldest = info
	}
	if info.LastModified.After(v.last) {
		v.last = info.LastModified
	}
}

// judge decides which version is the object, and remembers it and what somebody
// else did to it. It reports whether there is any.
func (r *Remote) judge(name string, v *versions) (object, bool) {
	if v.dir && v.count == 0 {
		return object{Entry: offsite.Entry{Name: path.Base(name), Dir: true}}, true
	}
	what := ""
	switch {
	case v.count == 0:
		// Gone for good; whoever needs it says so.
	case v.hidden:
		what = "it was hidden behind a delete marker"
	case v.count > 1:
		what = "it was written over"
	case v.markers > 0:
		what = "it was hidden for a while behind a delete marker"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known, name)
	delete(r.tampered, name)
	if what != "" {
		r.tampered[name] = fmt.Sprintf("%s by somebody else who has the key, at %s", what, v.last.UTC().Format(time.RFC3339))
	}
	if v.count == 0 {
		return object{}, false
	}
	o := object{
		Entry:   offsite.Entry{Name: path.Base(name), Size: v.oldest.Size, MTime: v.oldest.LastModified},
		version: v.oldest.VersionID, etag: v.oldest.ETag, alone: v.count == 1 && v.markers == 0,
	}
	if r.state.Versions {
		r.known[name] = o
	}
	return o, true
}

// look asks the service what lies under name now.
func (r *Remote) look(ctx context.Context, name string) (object, error) {
	if o, ok, err := r.lookAt(ctx, name); err != nil || ok {
		return o, err
	}
	below := false
	err := r.walk(ctx, r.cfg.key(name)+"/", 1, func(string, minio.ObjectInfo) (bool, error) {
		below = true
		return false, nil
	})
	if err == nil && !below {
		err = fs.ErrNotExist
	}
	return object{Entry: offsite.Entry{Name: path.Base(name), Dir: true}}, err
}

// lookAt is look for an object alone.
func (r *Remote) lookAt(ctx context.Context, name string) (object, bool, error) {
	if !r.state.Versions {
		info, err := r.core.StatObject(ctx, r.cfg.Bucket, r.cfg.key(name), minio.StatObjectOptions{})
		if missing(err) {
			return object{}, false, nil
		}
		return object{Entry: offsite.Entry{Name: path.Base(name), Size: info.Size, MTime: info.LastModified}, etag: info.ETag, alone: true}, err == nil, err
	}
	all, err := r.versionsOf(ctx, name)
	if err != nil || len(all) == 0 {
		return object{}, false, err
	}
	found := gathering{}
	for _, info := range all {
		found.add(name, info)
	}
	o, ok := r.judge(name, found[name])
	return o, ok, nil
}

// versionsOf lists every version and marker of one name, the newest first.
func (r *Remote) versionsOf(ctx context.Context, name string) (all []minio.ObjectInfo, err error) {
	dir, base := path.Split(r.cfg.key(name))
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	for info := range r.core.ListObjectsIter(ctx, r.cfg.Bucket, minio.ListObjectsOptions{Prefix: dir + base, WithVersions: true}) {
		if info.Err != nil {
			return nil, info.Err
		}
		// Names are listed in order, so the name itself comes before those that
		// only begin with it.
		if info.Key != dir+base || len(all) > maxNames {
			break
		}
		all = append(all, info)
	}
	return all, ctx.Err()
}

// Tampering returns, by name, what the listings and looks of this connection
// showed that somebody else did to objects which are still there.
func (r *Remote) Tampering() (all []offsite.Tampered) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, what := range r.tampered {
		all = append(all, offsite.Tampered{Name: name, What: what})
	}
	slices.SortFunc(all, func(a, b offsite.Tampered) int { return strings.Compare(a.Name, b.Name) })
	return all
}
