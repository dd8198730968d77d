package restore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atocore/atobackupd/internal/failure"
)

// Who may not look at the journal is not told that a restore is unfinished.
func TestUnreadableHint(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&fs.PathError{Op: "open", Path: "state", Err: fs.ErrPermission}, "put sudo before it"},
		{errors.New("it is no JSON"), "a restore is unfinished"},
	} {
		if got := unreadableHint(c.err); !strings.Contains(got, c.want) {
			t.Errorf("%v: %q, want %q in it", c.err, got, c.want)
		}
	}
}

// A journal that says nothing any more holds nobody for ever: abort with force moves it
// aside, names what lies beside the live files, and touches nothing.
func TestDamagedJournal(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "text": "x", "no journal": "{}", "cut off": `{"schema": 2,`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			r := s.mustRequest(t)
			o := resumeOptions(r.Store)
			o.Live = r.Live
			path := journalPath(r.Store.Dir())
			work := workDir(r.Live.Chroma, "20260101T000000Z")
			for _, err := range []error{
				os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600), os.Mkdir(work, 0o700),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			before := s.mustPrint(t)
			_, resumed := Resume(t.Context(), o)
			_, aborted := Abort(t.Context(), o)
			for _, err := range []error{resumed, aborted, placeOf(r.Store.Dir()).RefusePending()} {
				if failure.KindOf(err) != failure.Refused || !strings.Contains(failure.HintOf(err), "--abort --force") {
					t.Errorf("%v", err)
				}
			}
			o.Force = true
			res, err := Abort(t.Context(), o)
			if err != nil || !strings.Contains(strings.Join(res.Warnings, "\n"), work+" was left by a restore") {
				t.Errorf("%v, %q", err, res.Warnings)
			}
			if err := placeOf(r.Store.Dir()).RefusePending(); err != nil {
				t.Errorf("it still holds: %v", err)
			}
			if kept, _ := filepath.Glob(path + ".damaged-*"); len(kept) != 1 {
				t.Errorf("kept as %v", kept)
			}
			if s.mustPrint(t) != before {
				t.Error("something live was touched")
			}
			if res, err := Abort(t.Context(), o); err != nil || len(res.Warnings) != 1 {
				t.Errorf("once more: %v, %q", err, res.Warnings)
			}
		})
	}
}
