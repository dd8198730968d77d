#!/bin/sh
# sbom.sh VERSION DIR TOOL: a bill of materials (CycloneDX 1.6, JSON) beside each
# binary that dist.sh put into DIR, read out of the binary by the cyclonedx-gomod
# at the module path TOOL ($ARCHS as there), and SHA256SUMS anew. Its time is that
# of the commit, so that it is reproducible too.
set -eu
version=$1 tool=$3
dir=$(cd "$2" && pwd)
cd "$(dirname "$0")/.."
moment=$(TZ=UTC0 git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd)
for arch in ${ARCHS:-amd64 arm64}; do
	binary=$dir/atobackupd-$version-linux-$arch
	GOFLAGS= go run "$tool" bin -json -std -noserial -version "$version" "$binary" |
		jq --arg moment "$moment" '.metadata.timestamp = $moment | del(.metadata.tools)' >"$binary.cdx.json"
	jq -e '.components | length > 0' "$binary.cdx.json" >/dev/null
done
cd "$dir"
sha256sum "atobackupd-$version-linux-"* >SHA256SUMS
