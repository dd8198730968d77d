// Package atobackupd holds what the program carries along of its own
// repository: the commented configuration that `init` starts from, and the units
// for the machine that keeps a vault.
package atobackupd

import "embed"

// ConfigExample is config.example.toml.
//
//go:embed config.example.toml
var ConfigExample string

// VaultUnits are the systemd units of the second machine, below contrib/systemd.
//
//go:embed contrib/systemd/atobackup-vault-*
var VaultUnits embed.FS
