package snapshot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// A check that is cancelled has found nothing: it says why it ended.
func TestChecksEndWithTheCause(t *testing.T) {
	dir := t.TempDir()
	unpackChroma(t, filepath.Join(dir, "chroma"))
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	for name, check := range map[string]func(*Result) error{
		"db":     func(r *Result) error { return checkDB(ctx, dir, "chroma/chroma.sqlite3", true, nil, r) },
		"chroma": func(r *Result) error { return checkChroma(ctx, dir, Content{Chroma: "chroma"}, r) },
	} {
		result := newResult("", dir)
		if err := check(&result); !errors.Is(err, why) || len(result.Errors)+len(result.Checked) > 0 {
			t.Errorf("%s: %v, %+v", name, err, result)
		}
	}
}

// What cannot be read is a finding about it, and was not checked.
func TestChecksOfWhatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Chmod(filepath.Dir(dir), 0o755)) // others may pass, as far as what is looked at
	must(t, os.Mkdir(filepath.Join(dir, "chroma"), 0))
	for _, name := range []string{"db", "registry"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("{}"), 0))
	}
	if os.Getuid() == 0 { // whom no mode keeps from reading: this thread alone is nobody's
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		must(t, syscall.Setfsuid(65534))
		defer func() { must(t, syscall.Setfsuid(0)) }()
	}
	result := newResult("", dir)
	must(t, checkDB(t.Context(), dir, "db", true, nil, &result))
	checkRegistry(dir, "registry", &result)
	must(t, checkChroma(t.Context(), dir, Content{Chroma: "chroma"}, &result))
	for i, want := range []string{"db_integrity_check_failed: db cannot be read: ", "registry_invalid_json: registry: ",
		"chroma_segment_corrupt: chroma cannot be read: "} {
		if len(result.Errors) != 3 || !strings.HasPrefix(result.Errors[i], want) ||
			!strings.HasSuffix(result.Errors[i], "permission denied") {
			t.Errorf("not %s: %q", want, result.Errors)
		}
	}
	if !slices.Equal(result.Checked, []string{"registry"}) || len(result.Warnings) > 0 {
		t.Errorf("%+v", result)
	}
}

// That a Chroma directory could not be judged is said, once, of one in which nothing
// else is wrong.
func TestUnverifiedChromaIsSaid(t *testing.T) {
	for name, c := range map[string]struct {
		harm       func(dir string) error
		verifiable bool
		said       int
	}{
		"whole":                           {verifiable: true},
		"whole, and stored as unverified": {said: 1},
		"of an unknown format": {verifiable: true, said: 1,
			harm: func(dir string) error { return os.Remove(filepath.Join(dir, "chroma.sqlite3")) }},
		"damaged, and stored as unverified": {
			harm: func(dir string) error { return os.Truncate(filepath.Join(dir, "chroma.sqlite3"), 0) }},
	} {
		dir := t.TempDir()
		unpackChroma(t, filepath.Join(dir, "chroma"))
		if c.harm != nil {
			must(t, c.harm(filepath.Join(dir, "chroma")))
		}
		result := newResult("", dir)
		must(t, checkChroma(t.Context(), dir, Content{Chroma: "chroma", ChromaVerifiable: c.verifiable}, &result))
		want := newResult("", "")
		warnUnverified(&want)
		said := 0
		for _, text := range result.Warnings {
			if text == want.Warnings[0] {
				said++
			}
		}
		if said != c.said || !slices.Equal(result.Checked, []string{"chroma"}) {
			t.Errorf("%s: said %d times: %+v", name, said, result)
		}
	}
}

// A result names the snapshot, and says whether it is there.
func TestValidateNamesTheSnapshot(t *testing.T) {
	dir := t.TempDir()
	for path, exists := range map[string]bool{dir: true, filepath.Join(dir, "none"): false} {
		result, err := ValidateDir(t.Context(), path, "20261128T120000Z", ValidateOptions{})
		must(t, err)
		if result.Stamp != "20261128T120000Z" || result.Path != path || result.Exists != exists || result.Valid ||
			result.Warnings == nil || result.Checked == nil {
			t.Errorf("%+v", result)
		}
	}
}
