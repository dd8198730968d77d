#!/bin/sh
# reproducible.sh NFPM CYCLONEDX: builds the commit that is checked out twice, in two
# clones in different places, the second without anything that was compiled
# before, and compares every byte of what comes out.
set -eu
nfpm=$1 cyclonedx=$2
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
git clone -q "$here" "$work/one"
git clone -q "$work/one" "$work/another/place" # not from here, where it may move on
for copy in one another/place; do
	version=$("$work/$copy/packaging/version.sh")
	(
		umask 077 # nor does the builder's umask count
		[ $copy = one ] || export GOCACHE="$work/cache" TZ=Asia/Tokyo
		"$work/$copy/packaging/dist.sh" "$version" "$work/$copy/dist" >/dev/null
		unset GOCACHE # the tools are no part of what is built
		"$work/$copy/packaging/sbom.sh" "$version" "$work/$copy/dist" "$cyclonedx"
		"$work/$copy/packaging/deb.sh" "$version" "$work/$copy/dist" "$nfpm"
	)
done
diff -r "$work/one/dist" "$work/another/place/dist"
echo "the same bytes:"
cat "$work/one/dist/SHA256SUMS"
