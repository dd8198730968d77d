// Package offsite keeps the vault: the encrypted copy of snapshots on another
// machine, format 1.
//
//	README.txt, recover.py         how a stranger gets it back
//	vault.json                     what this is, whose, and by which policy it is pruned
//	packs/<PUSH>-<NNNNNN>.age      immutable: age(zstd(4 KiB pages))
//	snapshots/<PUSH>.manifest.age  age(zstd(JSON)): which page lies where
//	snapshots/<PUSH>.json          in the clear, for pruning without a key
//	snapshots/<PUSH>.SHA256SUMS    coreutils format: everything that the snapshot needs
//	snapshots/<PUSH>.SHA256SUMS.sig  SSHSIG over it; with it the snapshot exists
//	policy/<SEQ>.json (+ .sig)     what the host wants kept: retention, pins, forgotten pushes
//	host/<SEQ>.age (+ .sig)        what a new machine needs to take the vault up, sealed
//	reports/                       what the second machine found; it can only add findings
//	trash/                         packs on their way out
//	incoming/                      uploads under way
//
// PUSH is <STAMP>-<6 hex digits>, new for each attempt.
//
// # Base and patch
//
// A file is pages of 4096 bytes. A page of a snapshot is its base page XOR its
// patch page; either may be missing, and is zeros then. So there are two layers,
// never a chain, and a restore reads each pack at most once a layer:
//
//	page number          0      1      2      3      4
//	base, day 1        [ A0 ] [ A1 ] [ A2 ] [ A3 ]          packs of push 1
//	patch, day 2                [A1^B1]                     packs of push 2
//	patch, day 3                [A1^C1]       [A3^C3] [C4]  packs of push 3
//	                     |       |      |      |      |
//	day 3 is             A0      C1     A2     C3     C4
//
// The changed page goes XORed with its base page, not with the page of the day
// before: what barely changed is nearly all zeros and compresses to a few bytes,
// and day 3 needs nothing of day 2.
//
// # What this machine remembers
//
// The map (<state>/targets/<target>/map) holds one record for each page of the
// last pushed version of each path: a digest of the page, a digest of its base
// page, and where both lie (pack and page of the pack). A push looks at every
// page of the snapshot and compares digests:
//
//	page is zeros                      nothing is stored
//	digest as in the record            the record stays: the old packs are named again
//	digest of the base page            the base page alone
//	another                            patch = page XOR base page, into this push's packs
//	no record, or no base to trust     the page becomes a base page itself
//
// The base page itself is read from base/<target>/<PUSH>/<path>, a hard link to
// the file that the base was made from, and used only when its digest is the one
// in the record: a rotten base file costs bytes, and never poisons a patch.
// Without a map, or without its base files, a push sends a new base.
//
// # How the layers stay small
//
// Patch packs pile up, for each day's packs hold what that day changed. When the
// patch packs that a snapshot names outweigh its base packs times rebase_ratio,
// the push consolidates: every page that has a patch is sent anew against the
// base, and the packs of older days die with their snapshots. When even the
// patches in use outweigh that bound, the push rebases: every page is a base
// page again. See chooseMode.
//
// # How a push becomes a snapshot
//
//	packs -> manifest -> json -> SHA256SUMS -> packs listed once more -> signature
//
// Each is durable before the next, and a snapshot exists once its signature does.
// What an interrupted push has sent is in its spool, and the next attempt goes on
// from it. Prune moves packs that no SHA256SUMS names to trash/, looks again, and
// removes them a week later; a push and a restore look in trash/ too.
//
// # Whom to believe
//
// Everything that is read from a vault is hostile until it is proven: the
// signature is verified first, then digests, and only then is anything decrypted.
//
// # Files
//
//	vault_*.go   the format, listing, proving, verifying, pruning: needs no key
//	push_*.go    from a snapshot to packs: plan, read, encode, pack, seal, publish
//	pull_*.go    from packs to a snapshot
//	recover.py   the same without this program
package offsite
