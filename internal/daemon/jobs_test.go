package daemon

import (
	"errors"
	"slices"
	"testing"

	"github.com/atocore/atobackupd/internal/app"
	"github.com/atocore/atobackupd/internal/failure"
	"github.com/atocore/atobackupd/snapshot"
)

func TestFullestTakeCoversTheOthers(t *testing.T) {
	all := []app.Scheduled{{Name: "daily"}, {Name: "weekly"}, {Name: "monthly"}, {Name: "scrub"}}
	tests := []struct {
		kind snapshot.Kind
		list []app.Scheduled
		want []string
	}{
		{snapshot.Daily, all, nil},
		{snapshot.Weekly, all, []string{"daily"}},
		{snapshot.Monthly, all, []string{"daily", "weekly"}},
		{snapshot.Monthly, all[1:], []string{"weekly"}},
		{snapshot.Weekly, all[1:], nil},
	}
	for _, test := range tests {
		if got := covered(test.kind, test.list); !slices.Equal(got, test.want) {
			t.Errorf("%s of %v covers %v, want %v", test.kind, test.list, got, test.want)
		}
	}
}

func TestWorthRetrying(t *testing.T) {
	invalid := &failure.Error{Op: "take", Kind: failure.Invalid, Err: errors.New("torn")}
	other := errors.New("no space")
	tests := []struct {
		err     error
		attempt int
		want    bool
	}{
		{invalid, 1, true}, {invalid, 2, false}, {invalid, 3, false}, {other, 1, true}, {other, 3, true},
	}
	for _, test := range tests {
		if got := worthRetrying(test.err, test.attempt); got != test.want {
			t.Errorf("%v, attempt %d: %v", test.err, test.attempt, got)
		}
	}
}
