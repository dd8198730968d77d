#!/bin/sh
# The licences of the modules that the binary is made of, for the package's
# copyright file: their authors ask to be named wherever it goes.
set -eu
cd "$(dirname "$0")/.."
GOOS=linux GOARCH=amd64 CGO_ENABLED=0 go list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' ./cmd/atobackupd |
	sort -u | while read -r path version dir; do
	printf '\nFiles: %s@%s\nCopyright: see the text\nLicense: %s\n' "$path" "$version" "$path"
	found=
	for text in "$dir"/LICENSE* "$dir"/LICENCE* "$dir"/COPYING* "$dir"/NOTICE*; do
		[ -f "$text" ] || continue
		found=yes
		sed 's/\r$//; s/[[:space:]]*$//; s/^$/./; s/^/ /' "$text"
	done
	[ -n "$found" ] || { echo "$path has no licence" >&2; exit 1; }
done
