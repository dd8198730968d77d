// Package restore puts a snapshot back over the live store, all of it or
// nothing, and proves with drills that it can.
//
// The snapshot is copied beside each destination and checked while the live
// data stands untouched; then the two are exchanged by renames that a journal
// announces (a file that is itself a mount point is overwritten in place). A
// restore that is killed anywhere leaves the journal, and Resume finishes it or
// Abort puts everything back: both find out by inode numbers what has happened,
// so they may be killed and repeated too.
//
// What it does not promise: that a service which is started in the middle of a
// swap sees a whole store. What such a service made is recognised, moved aside
// and reported; nothing of it is deleted.
package restore
