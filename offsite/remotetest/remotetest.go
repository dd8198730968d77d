// Package remotetest is the contract that every offsite.Remote passes: one
// test for each obligation in the interface's comment. An implementation's own
// test is a few lines that call Run; what is particular to it (dialling, host
// keys, mounts) it tests for itself.
package remotetest

import (
	"testing"

	"github.com/atocore/atobackupd/offsite"
)

// Open returns a Remote whose root is the local directory root, however many
// machines and protocols lie in between. The directory exists, is empty, and is
// removed after the test; with Options.Keys the root is an empty place of the
// Remote's own instead. Open closes the Remote with t.Cleanup; closing it twice
// must be harmless.
type Open func(t *testing.T, root string) offsite.Remote

// Options say which obligations do not bind an implementation.
type Options struct {
	// AppendOnly is for Remotes that may only add: Move and Remove must fail
	// and change nothing, a failed Put may leave its partial in incoming/, and
	// parents are not made: Open makes packs/, snapshots/, incoming/ and trash/.
	AppendOnly bool
	// Keys is for Remotes that have names and no tree: nobody can plant symbolic
	// links there, and a directory exists while something is in it.
	Keys bool
	// HidesLinks is for servers that show a symbolic link as what it leads to, so
	// that no client can tell: links planted there lead where that machine lets them.
	HidesLinks bool
}

// suite is what every test of the contract works with.
type suite struct {
	open Open
	opts Options
}

// Run proves that the Remotes that open returns keep the contract.
func Run(t *testing.T, open Open, opts Options) {
	s := suite{open, opts}
	always := []struct {
		name string
		test func(*testing.T)
	}{
		{"round trip", s.roundTrip},
		{"age objects", s.ageObjects},
		{"put never replaces", s.putNeverReplaces},
		{"failing reader", s.failingReader},
		{"nothing in the clear", s.nothingInTheClear},
		{"missing", s.missing},
		{"names that leave the root", s.badNames},
		{"concurrent puts", s.concurrentPuts},
		{"concurrent puts of one name", s.concurrentPutsOfOneName},
		{"cancelled put", s.cancelledPut},
		{"cancelled before", s.cancelledBefore},
		{"list", s.list},
		{"open and close early", s.openAndCloseEarly},
		{"free", s.free},
		{"closed", s.closed},
	}
	for _, c := range always {
		t.Run(c.name, c.test)
	}
	if !opts.Keys && !opts.HidesLinks {
		t.Run("symbolic links", s.symbolicLinks)
	}
	if opts.AppendOnly {
		t.Run("only adds", s.onlyAdds)
		return
	}
	t.Run("parents", s.parents)
	t.Run("move", s.move)
	t.Run("move never replaces", s.moveNeverReplaces)
	t.Run("remove", s.remove)
}
