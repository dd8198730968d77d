#!/bin/sh
# dist.sh VERSION DIR: the static binaries and SHA256SUMS, in DIR; $ARCHS may
# name fewer architectures. The same commit gives the same bytes, wherever and
# whenever it is built: -trimpath takes the directory out, and the version comes
# from git and not from the clock.
set -eu
version=$1 dir=$2
export CGO_ENABLED=0 GOOS=linux GOAMD64=v1 GOARM64=v8.0 GOFLAGS= GOEXPERIMENT=
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
cd "$(dirname "$0")/.."
archs=${ARCHS:-amd64 arm64}
for arch in $archs; do
	GOARCH=$arch go build -trimpath -buildvcs=false -ldflags "-s -w -X main.stamped=$version" \
		-o "$dir/atobackupd-$version-linux-$arch" ./cmd/atobackupd
done
cd "$dir"
sha256sum "atobackupd-$version-linux-"* >SHA256SUMS
cat SHA256SUMS
