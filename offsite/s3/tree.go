package s3

import (
	"context"
	"io/fs"
	"path"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/atocore/atobackupd/offsite"
)

// tree is what one listing of the whole vault showed: each thousand names of it
// cost one request, where a listing for each directory and name costs one apiece.
// It answers for Config.ListFor, and what this connection puts or removes changes
// it. Others' work of that time is not seen, so that whoever must see it asks
// after a Move, which makes the tree forget.
type tree struct {
	at time.Time

	mu   sync.Mutex
	dirs map[string]map[string]object // by directory ("." for the vault's own) and name
}

// listed returns the tree, read anew when it is too old; nil where Config.ListFor
// is not set.
func (r *Remote) listed(ctx context.Context) (*tree, error) {
	if r.cfg.ListFor == 0 {
		return nil, nil
	}
	r.treeMu.Lock()
	defer r.treeMu.Unlock()
	if r.tree != nil && time.Since(r.tree.at) < r.cfg.ListFor {
		return r.tree, nil
	}
	t := &tree{at: time.Now(), dirs: map[string]map[string]object{".": {}}}
	found, err := r.gather(ctx, ".", minio.ListObjectsOptions{Recursive: true})
	if err != nil {
		return nil, err
	}
	for name, versions := range found {
		if o, ok := r.judge(name, versions); ok {
			t.put(name, o)
		}
	}
	r.tree = t
	return t, nil
}

// put adds an object, and the directories above it.
func (t *tree) put(name string, o object) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		dir := path.Dir(name)
		if t.dirs[dir] == nil {
			t.dirs[dir] = map[string]object{}
		}
		t.dirs[dir][path.Base(name)] = o
		if dir == "." {
			return
		}
		name, o = dir, object{Entry: offsite.Entry{Name: path.Base(dir), Dir: true}}
	}
}

// remove takes an object out. A directory that is empty then stays in the tree
// until that is read again; a listing of it is that of one that is missing.
func (t *tree) remove(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.dirs[path.Dir(name)], path.Base(name))
}

// entries lists a directory.
func (t *tree) entries(dir string) ([]offsite.Entry, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var listing offsite.Listing
	for name, o := range t.dirs[dir] {
		if o.Dir && len(t.dirs[path.Join(dir, name)]) == 0 {
			continue
		}
		if err := listing.Add(o.Entry); err != nil {
			return nil, local{err}
		}
	}
	entries := listing.Sorted()
	if len(entries) == 0 && dir != "." {
		return nil, fs.ErrNotExist
	}
	return entries, nil
}

// find returns what lies under a name.
func (t *tree) find(name string) (object, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o, ok := t.dirs[path.Dir(name)][path.Base(name)]
	if ok && o.Dir && len(t.dirs[name]) == 0 {
		return object{}, false
	}
	return o, ok
}

// changed notes what this connection did to name: o is what lies there now, or nil
// for nothing.
func (r *Remote) changed(name string, o *object) {
	r.treeMu.Lock()
	defer r.treeMu.Unlock()
	switch {
	case r.tree == nil:
	case o == nil:
		r.tree.remove(name)
	default:
		r.tree.put(name, *o)
	}
}

// forgetTree makes the next question ask the service.
func (r *Remote) forgetTree() {
	r.treeMu.Lock()
	defer r.treeMu.Unlock()
	r.tree = nil
}
