package remotetest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/offsite"
)

// calls returns every method that takes a name, applied to name.
func calls(ctx context.Context, r offsite.Remote, name string) map[string]func() error {
	return map[string]func() error{
		"List": func() error { _, err := r.List(ctx, name); return err },
		"Stat": func() error { _, err := r.Stat(ctx, name); return err },
		"Open": func() error {
			f, err := r.Open(ctx, name)
			if err == nil {
				f.Close()
			}
			return err
		},
		"Put":       func() error { _, err := r.Put(ctx, name, strings.NewReader("data")); return err },
		"Move from": func() error { return r.Move(ctx, name, "packs/elsewhere") },
		"Move to":   func() error { return r.Move(ctx, "packs/victim", name) },
		"Remove":    func() error { return r.Remove(ctx, name) },
	}
}

// badNames: a name that is not a plain path below the root is refused by every
// method, and nothing is read or changed for it.
func (s suite) badNames(t *testing.T) {
	outside := t.TempDir()
	root := filepath.Join(outside, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(outside, "x"), []byte("outside"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := s.open(t, root)
	put(t, r, "packs/victim", "data")
	before := tree(t, outside)
	names := []string{
		"", "/", "/abs", "..", "../x", "a/../../x", "packs/../../x", "packs/..", "packs/./victim",
		"packs//victim", "packs/", "./packs", "nul\x00byte", filepath.Join(outside, "x"),
	}
	for _, name := range names {
		for method, call := range calls(context.Background(), r, name) {
			if err := call(); err == nil {
				t.Errorf("%s(%q) succeeded", method, name)
			}
		}
	}
	if after := tree(t, outside); !maps.Equal(before, after) {
		t.Errorf("the tree was changed:\nbefore %v\nafter  %v", before, after)
	}
}

// missing: what does not exist is fs.ErrNotExist everywhere.
func (s suite) missing(t *testing.T) {
	ctx := context.Background()
	r := s.open(t, t.TempDir())
	put(t, r, "packs/one", "data")
	for _, name := range []string{"nothing", "packs/nothing", "no/such/directory"} {
		for method, call := range calls(ctx, r, name) {
			switch {
			case method == "Put" || method == "Move to":
			case s.opts.AppendOnly && (method == "Remove" || method == "Move from"):
			default:
				wantMissing(t, fmt.Sprintf("%s(%s)", method, name), call())
			}
		}
	}
}

// symbolicLinks: links that someone planted in the root lead nowhere else.
func (s suite) symbolicLinks(t *testing.T) {
	ctx := context.Background()
	root, outside := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("a secret of some length"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := s.open(t, root)
	for name, target := range map[string]string{
		"escape": outside, "leak": filepath.Join(outside, "secret"), "dangling": filepath.Join(outside, "new"),
	} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	before := tree(t, outside)
	for _, name := range []string{"leak", "escape/secret", "dangling", "escape"} {
		if f, err := r.Open(ctx, name); err == nil {
			f.Close()
			t.Errorf("Open(%s) followed a link out of the root", name)
		}
	}
	if _, err := r.List(ctx, "escape"); err == nil {
		t.Error("List(escape) followed a link out of the root")
	}
	if _, err := r.Stat(ctx, "escape/secret"); err == nil {
		t.Error("Stat(escape/secret) followed a link out of the root")
	}
	for _, name := range []string{"escape/new", "dangling", "leak", "escape/secret"} {
		if _, err := r.Put(ctx, name, strings.NewReader("planted")); err == nil {
			t.Errorf("Put(%s) succeeded", name)
		}
	}
	if err := r.Remove(ctx, "escape/secret"); err == nil {
		t.Error("Remove(escape/secret) followed a link out of the root")
	}
	if err := r.Move(ctx, "escape/secret", "packs/taken"); err == nil {
		t.Error("Move(escape/secret) followed a link out of the root")
	}
	if e, err := r.Stat(ctx, "leak"); err != nil || e.Dir || e.Size == int64(len("a secret of some length")) {
		t.Errorf("Stat(leak) = %+v, %v, want the link itself", e, err)
	}
	if after := tree(t, outside); !maps.Equal(before, after) {
		t.Errorf("outside was changed:\nbefore %v\nafter  %v", before, after)
	}
}

// cancelledBefore: with a context that has ended nothing is done at all.
func (s suite) cancelledBefore(t *testing.T) {
	r := s.open(t, t.TempDir())
	put(t, r, "packs/victim", "data")
	put(t, r, "packs/one", "data")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for method, call := range calls(ctx, r, "packs/one") {
		err := call()
		refused := s.opts.AppendOnly && failure.KindOf(err) == failure.Refused
		if !errors.Is(err, context.Canceled) && !refused {
			t.Errorf("%s with a cancelled context: %v", method, err)
		}
	}
	for _, name := range []string{"packs/victim", "packs/one"} {
		if got := get(t, r, name); got != "data" {
			t.Errorf("%s holds %q", name, got)
		}
	}
}

// closed: a Remote that was closed fails, and closing it again is harmless.
func (s suite) closed(t *testing.T) {
	ctx := context.Background()
	r := s.open(t, t.TempDir())
	put(t, r, "packs/victim", "data")
	put(t, r, "packs/one", "data")
	if err := r.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	for method, call := range calls(ctx, r, "packs/one") {
		if err := call(); err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) {
			t.Errorf("%s after Close: %v", method, err)
		}
	}
	if _, err := r.Free(ctx); err == nil {
		t.Error("Free works after Close")
	}
	if err := r.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}
