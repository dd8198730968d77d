// Package snapshot takes, validates, publishes and lists snapshots: points in
// time of AtoCore's database, project registry and Chroma directory, each in
// its own directory under <backup.dir>/snapshots, named by its stamp.
//
// Nothing under snapshots/ is ever half a snapshot: one is made in staging/,
// made durable, and renamed into place. What it does not promise: that a
// published snapshot is still good years later (Validate finds out), or that
// the disk it lies on survives (package offsite is for that).
package snapshot
