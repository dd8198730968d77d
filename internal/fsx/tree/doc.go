// Package tree works on directory trees that somebody else can write: the live
// store, whose owner is the application; a backup directory that is shared; a
// vault on a disk that other machines have used.
//
// In such a tree a path is only a question. Between a look at it and its use,
// the tree's owner can put a link where a directory was, and what root then
// writes, removes or gives away is somewhere else. So a configured path is
// resolved once, by Open, and everything below it is done through the directory
// handle that Open returns:
//
//	live, err := tree.Open("/srv/atocore/data", owners) // a link only where links can be trusted
//	defer live.Close()
//
//	work, err := live.Mkdir(".work", 0o700)         // the directory that was made, or an error
//	out, err := work.Create("db/atocore.db", 0o600) // O_EXCL; no link on the way is followed
//	in, err := live.OpenFile("db/atocore.db")       // a regular file, or an error at once
//	_, err = fsx.CloneOrCopy(ctx, out, in, true)    // holes stay holes
//	err = work.Rename("db/atocore.db", live, "db/atocore.db", tree.NoReplace)
//	err = live.Expect("db/atocore.db", id)           // is it still what was made?
//	err = live.RemoveAll(".work")                   // enters no mount, follows no link
//
// Names are relative paths with slashes; "..", absolute paths and empty
// elements are refused. A link among the elements is an error of kind
// ErrSymlink. Where the kernel has openat2 it resolves a name in one call;
// elsewhere each element is opened with O_NOFOLLOW.
//
// Handles pin what they were opened on: a directory that is renamed meanwhile
// stays the one that is worked in, and CheckPlace says that it was moved.
// ErrSwapped means that a name leads to something else than was made or seen.
//
// Private reports whether decisions may be taken from what lies at a path:
// whether nobody but root, the service's user and the caller can change it.
//
// Directories that belong to the service, such as the state directory, may be
// written by root's commands too. GiveToOwner makes a handle give what is made
// through it to the owner of its directory, so that the service can use it.
//
// The files of the package: resolve.go opens roots, dir.go resolves names, and
// make.go, move.go, remove.go, list.go, read.go and attributes.go do what their
// names say; owners.go judges who can write a path.
//
// Every call that changes something is announced to package fsx's observer, so
// that tests can make it fail or kill the process there.
package tree
