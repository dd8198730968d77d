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
//	trash/                         packs on their way out
//	incoming/                      uploads under way
//
// PUSH is <STAMP>-<6 hex digits>, new for each attempt. A file's content is its
// base pages XOR its patch pages, cut to its size; a page in neither is zeros.
//
// Everything that is read from a vault is hostile until it is proven: the
// signature is verified first, then digests, and only then is anything decrypted.
package offsite
