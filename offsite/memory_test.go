package offsite

import (
	"context"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// memory is a Remote of names and times, for decisions that ask for no more.
type memory map[string]time.Time

func (m memory) List(_ context.Context, dir string) (list []Entry, err error) {
	for name, at := range m {
		if path.Dir(name) == dir {
			list = append(list, Entry{Name: path.Base(name), MTime: at})
		}
	}
	slices.SortFunc(list, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

func (m memory) Stat(_ context.Context, name string) (Entry, error) {
	at, ok := m[name]
	if !ok {
		return Entry{}, fs.ErrNotExist
	}
	return Entry{Name: path.Base(name), MTime: at}, nil
}

func (m memory) Open(context.Context, string) (io.ReadCloser, error) { return nil, fs.ErrNotExist }

func (m memory) Put(_ context.Context, name string, r io.Reader) (int64, error) {
	if _, ok := m[name]; ok {
		return 0, fs.ErrExist
	}
	m[name] = time.Now()
	return io.Copy(io.Discard, r)
}

func (m memory) Move(ctx context.Context, from, to string) error {
	at, ok := m[from]
	if !ok {
		return fs.ErrNotExist
	}
	if _, ok := m[to]; ok {
		return fs.ErrExist
	}
	m[to] = at
	delete(m, from)
	return nil
}

func (m memory) Remove(_ context.Context, name string) error {
	if _, ok := m[name]; !ok {
		return fs.ErrNotExist
	}
	delete(m, name)
	return nil
}

func (m memory) Free(context.Context) (int64, error) { return -1, nil }

func (m memory) Close() error { return nil }
