package chroma

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// unpack lays a directory of testdata out in a temporary one and returns its path.
// Its files keep the order of their times; the newest is an hour old.
func unpack(t testing.TB, name string) string {
	t.Helper()
	into := t.TempDir()
	f, err := os.Open(filepath.Join("testdata", name+".tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	times, newest := map[string]time.Time{}, time.Time{}
	for archive := tar.NewReader(z); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(into, h.Name)
		if h.Typeflag == tar.TypeDir {
			err = os.Mkdir(path, 0o755)
		} else {
			data, _ := io.ReadAll(archive)
			err = os.WriteFile(path, data, 0o644)
			times[path] = h.ModTime
			if h.ModTime.After(newest) {
				newest = h.ModTime
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	shift := time.Until(newest) + time.Hour
	for path, mtime := range times {
		if err := os.Chtimes(path, mtime.Add(-shift), mtime.Add(-shift)); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(into, name)
}

// segmentOf returns the directory of the first segment in a directory.
func segmentOf(t testing.TB, dir string) string {
	t.Helper()
	headers, err := filepath.Glob(filepath.Join(dir, "*", headerName))
	if err != nil || len(headers) == 0 {
		t.Fatalf("no segment in %s: %v", dir, err)
	}
	return filepath.Dir(headers[0])
}

// edit changes a file's bytes.
func edit(t testing.TB, path string, change func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, change(data), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func judge(t testing.TB, dir string) Report {
	t.Helper()
	r, err := Validate(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wantError fails unless one of the errors has the code and the words.
func wantError(t testing.TB, r Report, code, words string) {
	t.Helper()
	for _, f := range r.Errors {
		if f.Code == code && strings.Contains(f.Text, words) {
			if r.Consistency != Unverified {
				t.Errorf("consistency %q beside errors", r.Consistency)
			}
			return
		}
	}
	t.Errorf("errors %v, want %s with %q in it", r.Errors, code, words)
}
