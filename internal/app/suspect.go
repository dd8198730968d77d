package app

import "github.com/atocore/atobackupd/snapshot"

// suspicions returns why the source of a take is suspected of having shrunk, as
// long as nobody accepted that.
func suspicions(s snapshot.Snapshot) []string { return nil }
