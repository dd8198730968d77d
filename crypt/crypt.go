// Package crypt seals what leaves this machine and opens what comes back: age
// files, the key files that belong to them, and the signatures that say who
// wrote a vault. It is the only package that imports age.
//
// A machine that makes backups holds recipients only, so it cannot read what
// it has shipped. Nothing here logs, and no error text holds any part of a
// secret key or of a line that could be one.
//
// age authenticates the bytes of a file, not who wrote it: anybody who has the
// recipients can make one. Who wrote a snapshot is said by its signature (see
// Signer and Verify).
package crypt

import "bytes"

const header = "age-encryption.org/v1\n"

// HeaderLen is how many bytes IsHeader needs.
const HeaderLen = len(header)

// IsHeader reports whether b, the first bytes of a file, begins an age file in
// its binary form. It says nothing about the rest of the file.
func IsHeader(b []byte) bool { return bytes.HasPrefix(b, []byte(header)) }
