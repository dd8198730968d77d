// Package fsx holds the file-system operations that a backup stands on:
// durable and atomic writes, clone-or-copy, locks that die with their holder,
// and questions about space and mounts.
//
// Durable means: when the call returned nil, the result survives a power cut.
// On Linux that takes an fsync of the file and one of the directory that names
// it. Atomic means: a reader sees the old or the new, never something between.
package fsx
