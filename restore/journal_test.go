package restore

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
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
