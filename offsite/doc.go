// Package offsite keeps the vault: the encrypted copy of snapshots on another
// machine.
package offsite
