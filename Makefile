# The commands that people and CI run. Each says what it needs and installs it.

export CGO_ENABLED := 0
# The folder with the test rig, for `make rig`.
export ATOBACKUPD_SHARED ?= $(abspath ../shared)

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0

.PHONY: build demo test rig prove fuzz lint vuln bench outage microbench clean

build: ## the static binary, ./atobackupd
	go build -trimpath -o atobackupd ./cmd/atobackupd

demo: ## the whole life of a backup, in a temporary directory
	go run ./cmd/demo

# Tests run against the real programs: OpenSSH's server, age, zstd, Python.
test: ## every test that needs nothing outside the project
	@.ci/install openssh-server openssh-client age zstd python3 util-linux jq sqlite3 xxd groff-base
	go test -count=1 -timeout 20m ./...

PROGRAMS := openssh-server openssh-client age zstd python3 util-linux jq sqlite3 xxd groff-base \
	systemd-container debootstrap iproute2 btrfs-progs xfsprogs e2fsprogs perl-base bc \
	chromium prometheus curl proftpd-core proftpd-mod-crypto rclone strace

# These need the rig: a real systemd, a real Chroma server, slow lines, crashes.
rig: ## the tests that need $(ATOBACKUPD_SHARED)
	@test -d "$(ATOBACKUPD_SHARED)" || { echo "make rig needs the test rig: set ATOBACKUPD_SHARED to its folder, $(ATOBACKUPD_SHARED) is none" >&2; exit 1; }
	@.ci/install $(PROGRAMS)
	go test -count=1 -timeout 40m -tags rig -run '^TestRig' ./...

# What make test and make rig try few times, often; and the year, the upgrade, the
# mutants. ONLY=REGEXP runs some of it.
prove: ## every scenario of docs/testing.md, which it writes anew (under an hour)
	@test -d "$(ATOBACKUPD_SHARED)" || { echo "make prove needs the test rig: set ATOBACKUPD_SHARED" >&2; exit 1; }
	@.ci/install $(PROGRAMS) gcc libc6-dev
	go run ./cmd/prove -only '$(ONLY)'

fuzz: ## every fuzz target, 10,000,000 executions each: a night and more
	@mkdir -p dist && cp docs/testing.md dist/fuzz.md
	go run ./cmd/prove -only '^Fuzzed input' -fuzz 10000000 dist/fuzz.md

lint: ## formatting, vet and staticcheck
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "not gofmt-ed: $$unformatted" >&2; exit 1; }
	go vet ./...
	go vet -tags rig,man ./...
	go run $(STATICCHECK) -tags rig,man ./...

# Not part of CI: it asks a database on the internet.
vuln: ## known vulnerabilities in what the program calls
	go run $(GOVULNCHECK) ./...

# With an S3 server (keys "user" and "secret12345"):
# BENCH='--s3 127.0.0.1:9000 --s3-name "versitygw 1.8.0"'
bench: ## the built program beside sqlite3, restic and rsync: docs/benchmarks.md; BENCH adds an S3 server
	@.ci/install openssh-server openssh-client age python3 sqlite3 restic rsync rclone
	go build -trimpath -ldflags "-X main.stamped=$(VERSION)" -o atobackupd ./cmd/atobackupd
	contrib/bench/bench.py ./atobackupd --out docs/benchmarks.md $(BENCH)

outage: build ## how long a service is away while it is restored, at three sizes; BENCH adds flags
	@.ci/install python3 sqlite3
	contrib/bench/outage.py ./atobackupd $(BENCH)

microbench: ## parts of it: the database copy beside cp, the listing, the vault's transport
	go test -run '^$$' -bench . ./snapshot/... ./offsite/...

clean:
	rm -rf atobackupd dist

# Packages. The version is that of the tags; the maintainer is whom dpkg names.
VERSION ?= $(shell packaging/version.sh)
export MAINTAINER ?= AtoCore maintainers <root@localhost>
# 2.48 would need two modules, for other formats, that the Go proxy did not serve.
NFPM := github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.4
CYCLONEDX := github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0

.PHONY: dist deb reproducible print-nfpm

dist: ## static binaries for amd64 and arm64 with SBOMs and SHA256SUMS, in dist/
	@test -n "$(VERSION)"
	@.ci/install jq
	rm -rf dist
	packaging/dist.sh "$(VERSION)" dist
	packaging/sbom.sh "$(VERSION)" dist $(CYCLONEDX)

deb: dist ## Debian packages for amd64 and arm64, in dist/
	packaging/deb.sh "$(VERSION)" dist $(NFPM)

reproducible: ## proves that two builds, in two directories, have the same bytes
	@.ci/install jq
	packaging/reproducible.sh $(NFPM) $(CYCLONEDX)

# For the test of the package, which builds with the same one.
print-nfpm:
	@echo $(NFPM)
