package s3

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/atocore/atobackupd/offsite"
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
	if t, err := r.listed(ctx); err != nil || t != nil {
		if err != nil {
			return nil, err
		}
		return t.entries(dir)
	}
	found, err := r.gather(ctx, dir, minio.ListObjectsOptions{})
	if err != nil {
		return nil, err
	}
	var listing offsite.Listing
	for name, versions := range found {
		if o, ok := r.judge(name, versions); ok {
			if err := listing.Add(o.Entry); err != nil {
				return nil, local{err}
			}
		}
	}
	entries := listing.Sorted()
	if len(entries) == 0 && dir != "." {
		return nil, fs.ErrNotExist
	}
	return entries, nil
}

// gather lists a directory, or with Recursive all that lies below it, within the
// bounds of a listing. Placeholders that a console made for directories are left
// out.
func (r *Remote) gather(ctx context.Context, dir string, options minio.ListObjectsOptions) (gathering, error) {
	prefix := r.cfg.key(dir) + "/"
	if prefix == "./" {
		prefix = ""
	}
	found, bytes := gathering{}, 0
	err := r.walk(ctx, prefix, options, func(name string, info minio.ObjectInfo) (bool, error) {
		if name == "" || options.Recursive && strings.HasSuffix(name, "/") {
			return true, nil
		}
		if found.add(path.Join(dir, name), info) {
			bytes += len(name)
		}
		if len(found) > offsite.MaxEntries || bytes > offsite.MaxNames {
			return false, local{offsite.ErrEndless}
		}
		return true, nil
	})
	return found, err
}

// walk calls visit for each object, marker and directory below prefix, with its
// name there; a directory's ends with a slash. It stops when visit returns false.
func (r *Remote) walk(
	ctx context.Context, prefix string, options minio.ListObjectsOptions,
	visit func(string, minio.ObjectInfo) (more bool, err error),
) error {
	ctx, cancel := context.WithTimeout(ctx, offsite.ListTimeout)
	defer cancel()
	options.Prefix, options.WithVersions = prefix, r.state.Versions
	for info := range r.core.ListObjectsIter(ctx, r.cfg.Bucket, options) {
		if info.Err != nil {
			return info.Err
		}
		name, ok := strings.CutPrefix(info.Key, prefix)
		plain := isElement
		if options.Recursive {
			plain = isPath
		}
		if !ok || name != "" && !plain(strings.TrimSuffix(name, "/")) || info.Size < 0 {
			return local{fmt.Errorf("the service lists the impossible name %q", info.Key)}
		}
		if more, err := visit(name, info); err != nil || !more {
			return err
		}
	}
	return ctx.Err()
}

// isElement reports whether name is one element of a path.
func isElement(name string) bool {
	return offsite.ValidName(name) && name != "." && !strings.Contains(name, "/")
}

// isPath reports whether name is a path below a directory.
func isPath(name string) bool { return offsite.ValidName(name) && name != "." }

// gathering holds what a listing shows of each name, the newest version first.
type gathering map[string]*versions

// versions is what lies under one name.
type versions struct {
	dir     bool
	oldest  object // that is no marker
	count   int    // of versions that are no markers
	markers int
	hidden  bool // the newest is a marker
	last    time.Time
}

// add takes one version of a name, and reports whether the name is new.
func (g gathering) add(name string, info minio.ObjectInfo) (isNew bool) {
	v := g[name]
	if isNew = v == nil; isNew {
		v = &versions{}
		g[name] = v
	}
	switch {
	case strings.HasSuffix(info.Key, "/"):
		v.dir = true
		return isNew
	case info.IsDeleteMarker:
		v.markers++
		v.hidden = v.hidden || info.IsLatest
	default:
		v.count++
		v.oldest = object{
			Entry:   offsite.Entry{Name: path.Base(name), Size: info.Size, MTime: info.LastModified},
			version: info.VersionID, etag: info.ETag,
		}
	}
	if info.LastModified.After(v.last) {
		v.last = info.LastModified
	}
	return isNew
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
	if what != "" && name != probeName { // nobody needs it, and a key that cannot delete writes it over
		r.tampered[name] = fmt.Sprintf(
			"%s by somebody else who has the key, at %s", what, v.last.UTC().Format(time.RFC3339),
		)
	}
	if v.count == 0 {
		return object{}, false
	}
	o := v.oldest
	o.alone = v.count == 1 && v.markers == 0
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
	if t, err := r.listed(ctx); err != nil || t != nil {
		return object{}, cmp.Or(err, fs.ErrNotExist) // the tree has directories too
	}
	one := minio.ListObjectsOptions{MaxKeys: 1}
	err := r.walk(ctx, r.cfg.key(name)+"/", one, func(string, minio.ObjectInfo) (bool, error) {
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
	if t, err := r.listed(ctx); err != nil || t != nil {
		if err != nil {
			return object{}, false, err
		}
		o, ok := t.find(name)
		return o, ok, nil
	}
	if !r.state.Versions {
		info, err := r.core.StatObject(ctx, r.cfg.Bucket, r.cfg.key(name), minio.StatObjectOptions{})
		if missing(err) {
			return object{}, false, nil
		}
		e := offsite.Entry{Name: path.Base(name), Size: info.Size, MTime: info.LastModified}
		return object{Entry: e, etag: info.ETag, alone: true}, err == nil, err
	}
	found := gathering{}
	for info, err := range r.versionsOf(ctx, name) {
		if err != nil {
			return object{}, false, err
		}
		found.add(name, info)
	}
	if found[name] == nil {
		return object{}, false, nil
	}
	o, ok := r.judge(name, found[name])
	return o, ok, nil
}

// versionsOf yields every version and marker of one name, the newest first. They
// are never all in memory: whoever has the key can make any number.
func (r *Remote) versionsOf(ctx context.Context, name string) iter.Seq2[minio.ObjectInfo, error] {
	key := r.cfg.key(name)
	return func(yield func(minio.ObjectInfo, error) bool) {
		ctx, cancel := context.WithTimeout(ctx, offsite.ListTimeout)
		defer cancel()
		options := minio.ListObjectsOptions{Prefix: key, WithVersions: true}
		for info := range r.core.ListObjectsIter(ctx, r.cfg.Bucket, options) {
			if info.Err != nil {
				yield(minio.ObjectInfo{}, info.Err)
				return
			}
			// Names that only begin with it may stand between its versions.
			if info.Key != key {
				continue
			}
			if !yield(info, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(minio.ObjectInfo{}, err)
		}
	}
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
