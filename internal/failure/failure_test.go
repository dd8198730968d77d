package failure

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"
)

func TestErrorReads(t *testing.T) {
	why := errors.New("no such snapshot")
	for _, c := range []struct {
		err  error
		want string
	}{
		{&Error{Op: "pin", Subject: "S", Err: why, Hint: "see `atobackupd list`"},
			"pin: S: no such snapshot: see `atobackupd list`"},
		{&Error{Err: why}, "no such snapshot"},
		{&Error{Op: "restore refused", Subject: "S", Err: &Error{Op: "snapshot", Subject: "S", Err: why}},
			"restore refused: S: snapshot: no such snapshot"},
		{&Error{Op: "scrub", Err: &Error{Op: "scrub", Err: why, Hint: "scrub --repair"}},
			"scrub: no such snapshot: scrub --repair"},
		{&Error{Op: "sync", Hint: "wait", Err: &Error{Op: "laptop", Err: why, Hint: "wait"}},
			"sync: laptop: no such snapshot: wait"},
		{&Error{Op: "config", Subject: "/etc/x", Err: &fs.PathError{Op: "open", Path: "/etc/x", Err: fs.ErrPermission}},
			"config: /etc/x: permission denied"},
		{&Error{Op: "config", Subject: "/etc/x", Err: &fs.PathError{Op: "open", Path: "/y", Err: fs.ErrPermission}},
			"config: /etc/x: open /y: permission denied"},
		{&Error{Op: "diff", Hint: "wait", Err: fmt.Errorf("live: %w", &Error{Op: "a", Err: why, Hint: "wait"})},
			"diff: live: a: no such snapshot: wait"},
		{WithoutHint(&Error{Op: "a", Hint: "outer", Err: &Error{Op: "b", Hint: "inner", Err: why}}),
			"a: b: no such snapshot"},
		{WithoutHint(why), "no such snapshot"},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("%#v reads %q, not %q", c.err, got, c.want)
		}
	}
}

func TestKindOf(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Kind
	}{
		{nil, Other},
		{errors.New("x"), Other},
		{&Error{Kind: Refused, Err: &Error{Kind: Usage}}, Refused},
		{&Error{Err: &Error{Kind: Usage}}, Usage},
		{fmt.Errorf("x: %w", &Error{Kind: NoSpace}), NoSpace},
		{&Error{Err: context.Canceled}, Interrupted},
		{&Error{Kind: Locked, Err: context.Canceled}, Locked},
	} {
		if got := KindOf(c.err); got != c.want {
			t.Errorf("KindOf(%v) = %v, want %v", c.err, got, c.want)
		}
	}
	inner := &Error{Kind: Stale, Err: fs.ErrExist}
	if !errors.Is(&Error{Err: inner}, fs.ErrExist) || !errors.Is(WithoutHint(inner), fs.ErrExist) {
		t.Error("the cause is lost")
	}
}
