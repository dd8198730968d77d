#!/bin/sh
# deb.sh VERSION DIR NFPM: Debian packages for the binaries that dist.sh put into
# DIR, made by the nfpm at the module path NFPM ($ARCHS as there). They take their times from the
# commit, so that they are reproducible too.
set -eu
version=$1 nfpm=$3
dir=$(cd "$2" && pwd)
cd "$(dirname "$0")/.."
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
umask 022
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
chmod 755 "$tree" # it is the package's "/"
self=$dir/atobackupd-$version-linux-$(go env GOHOSTARCH)

# put MODE FROM TO: a file of the package.
put() { install -D -m "$1" "$2" "$tree/$3"; }
put 644 contrib/systemd/atobackupd.service usr/lib/systemd/system/atobackupd.service
put 644 contrib/systemd/atobackupd-restore@.service usr/lib/systemd/system/atobackupd-restore@.service
for unit in contrib/systemd/atobackup-vault-*; do
	put 644 "$unit" "usr/lib/systemd/system/${unit##*/}"
done
put 644 contrib/systemd/sysusers.d/atobackupd.conf usr/lib/sysusers.d/atobackupd.conf
put 644 contrib/systemd/tmpfiles.d/atobackupd.conf usr/lib/tmpfiles.d/atobackupd.conf
put 644 contrib/prometheus/atobackupd.rules.yml usr/share/atobackupd/prometheus/atobackupd.rules.yml
put 644 contrib/grafana/atobackupd.json usr/share/atobackupd/grafana/atobackupd.json
put 755 packaging/take-over usr/share/atobackupd/take-over
doc=usr/share/doc/atobackupd
put 644 config.example.toml $doc/examples/config.example.toml
put 644 README.md $doc/README.md
# All that the pages link to, or their links would be dead.
for page in docs/*.md docs/*.png CHANGELOG.md CONTRIBUTING.md $(find docs/format-example -type f | sort); do
	[ ! -e "$page" ] || put 644 "$page" "$doc/$page"
done
put 644 packaging/deb/copyright $doc/copyright
sh packaging/notices.sh >>"$tree/$doc/copyright"
printf 'atobackupd (%s) stable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- %s  %s\n' "$version" "$MAINTAINER" \
	"$(date -u -R -d "@$SOURCE_DATE_EPOCH")" >"$tree/$doc/changelog"
put 644 packaging/deb/lintian-overrides usr/share/lintian/overrides/atobackupd

mkdir -p "$tree/usr/share/man/man1" "$tree/usr/share/man/man5" "$tree/gen"
# The writer of the pages is no part of the program that is shipped.
go run -trimpath -buildvcs=false -tags man -ldflags "-X main.stamped=$version" ./cmd/atobackupd gen-man docs/configuration.md "$tree/gen"
mv "$tree"/gen/*.1 "$tree/usr/share/man/man1"
mv "$tree"/gen/*.5 "$tree/usr/share/man/man5"
rmdir "$tree/gen"
gzip -9n "$tree"/usr/share/man/man?/* "$tree/$doc/changelog"
for shell in bash:bash-completion/completions/atobackupd zsh:zsh/vendor-completions/_atobackupd fish:fish/vendor_completions.d/atobackupd.fish; do
	to=$tree/usr/share/${shell#*:}
	mkdir -p "${to%/*}"
	"$self" completion "${shell%%:*}" >"$to"
done

for arch in ${ARCHS:-amd64 arm64}; do
	put 755 "$dir/atobackupd-$version-linux-$arch" usr/bin/atobackupd
	find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
	TREE=$tree VERSION=$version ARCH=$arch GOFLAGS= go run "$nfpm" package --config packaging/nfpm.yaml \
		--packager deb --target "$dir/atobackupd_${version}_$arch.deb"
done
cd "$dir"
sha256sum atobackupd-* atobackupd_*.deb >SHA256SUMS
