// Package atobackupd holds what the program carries along of its own
// repository: the commented configuration that `init` starts from.
package atobackupd

import _ "embed"

// ConfigExample is config.example.toml.
//
//go:embed config.example.toml
var ConfigExample string
