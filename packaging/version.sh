#!/bin/sh
# The version of this checkout, by its tags: 0.2.0 at the tag v0.2.0, and
# 0.2.0+4.gabc1234 four commits later. Before any tag it is that of the file
# VERSION, as 0.2.0~81.gabc1234, which Debian sorts before 0.2.0. A changed work tree adds ".dirty".
set -eu
cd "$(dirname "$0")/.."
first=$(cat VERSION)
commit=$(git rev-parse --short=7 HEAD 2>/dev/null) ||
	{ echo "there is no git history to take the version from: say make VERSION=1.2.3" >&2; exit 1; }
if described=$(git describe --tags --match 'v[0-9]*' --long --abbrev=7 2>/dev/null); then
	tag=${described%-*-g*}
	ahead=${described#"$tag"-}
	ahead=${ahead%-g*}
	version=$(echo "${tag#v}" | tr - '~') # v1.0.0-rc1 comes before v1.0.0
	[ "$ahead" = 0 ] || version=$version+$ahead.g$commit
else
	version=$first~$(git rev-list --count HEAD).g$commit
fi
git diff --quiet HEAD || version=$version.dirty
echo "$version"
