// Package web serves what a person or a program wants to see of the daemon: a
// dashboard, the HTTP API that AtoCore's runbook speaks, and metrics. It takes
// snapshots when it is asked to; it never restores, prunes or deletes.
//
// It knows nothing of the daemon: whoever starts the server hands in a Source.
//
// Whoever can reach the port may read. Writing needs a bearer token, unless the
// request can only come from a program on this machine: see guard. Everything
// that is shown is hostile text: names, paths and errors come from disks and
// machines that others write to.
package web
