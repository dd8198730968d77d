// Package restore puts a snapshot back over the live store, all of it or
// nothing, and proves with drills that it can.
//
// The snapshot is validated and copied beside each destination while the live
// data stands untouched, under a service that may still run. Then the two are
// exchanged by renames, inside the live directory, because a rename across two
// mounts fails even on one file system:
//
//	live directory                       before      swapping       after
//	atocore.db                           old         moved out      new
//	.atobackupd-restore-STAMP/db/new/    new         moved in       (empty)
//	.atobackupd-restore-STAMP/db/old/    (empty)     receives       old: the anchor is copied from here
//
// A file that is itself a mount point cannot be renamed: it is copied to old/ and
// overwritten in place. On overlayfs, where a directory of a lower layer cannot be
// renamed, Chroma is exchanged file by file.
//
// A journal in the state directory announces every step before it is taken:
//
//	staging ──▶ swapping ──▶ checking ──▶ anchoring ──▶ committed ──▶ (none)
//	   │            │            │            │
//	   │            └────────────┴────────────┴──▶ swapped back ──▶ aborted ──▶ (none)
//	   └──▶ (none)
//
//	staging    copies are made; the live store is untouched
//	swapping   anything between all old and all new
//	checking   all new; a managed service is started and asked whether it is well
//	anchoring  all new and good; what was moved aside becomes the pre-restore snapshot
//	committed  only the old copies are left to remove
//	aborted    all old again; only the copies are left to remove
//
// A restore that is killed anywhere leaves the journal, and Resume finishes it or
// Abort puts everything back: both find out by inode numbers what has happened,
// so they may be killed and repeated too. The outage of a managed restore is the
// service's stop, the renames, and its start, whatever the size of the store.
//
// The live directories belong to the application, which may be hostile. They are
// worked in through handles alone (package internal/fsx/tree), and the journal is
// believed only where nobody else can have written it.
//
// What the package does not promise: that a service which is started in the
// middle of a swap sees a whole store. What such a service made is recognised,
// moved aside and reported; nothing of it is deleted.
//
// Run is in run.go and replace.go, which has the order of stop, swap, start, check
// and roll back; service.go runs the service's commands, servicecheck.go asks
// whether it is well. plan.go and planitem.go say what Run would do, source.go
// checks the snapshot, artifact.go finds its live places, inuse.go who has them
// open. set.go, stage.go, swap.go and back.go are the swap, leaves.go the one of
// overlayfs; session.go and journal.go keep what resume.go takes up after an
// interruption; anchor.go saves what was live. extract.go restores into a scratch
// directory, drill.go and livedrill.go for practice. options.go has what the
// operator answered, result.go what came of it.
package restore
