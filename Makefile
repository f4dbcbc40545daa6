# `make test` needs only Go. The other targets install the programs that they
# need: tools into .tools/ and, as root, Debian packages. `.ci/run` runs
# everything that must pass.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := test

# The end-to-end tests build the link simulator from here.
export FERRY_SHARED ?= $(abspath ../shared)

# Most of the tests' time is fsync, so they write to memory if the machine has
# 2 GiB to spare.
test chaos kubernetes s3: export TMPDIR := $(shell test/memory.sh)

# Tests have small heaps, which the garbage collector would visit too often.
test race chaos: export GOGC := 400

.PHONY: cluster oidc s3 deploy docs test race fmt vet staticcheck imports words build image dist charts conformance e2e kubernetes bench bench-links \
	bench-fleet chaos fuzz kubernetes-tools tools packages clean

test: ## every test that needs only Go; those that wait for a database do so together
	go test -parallel 8 ./...

race: ## the same under the race detector, which needs a C compiler; with fewer histories
	CGO_ENABLED=1 go test -race -short -timeout 20m $(unchecked) ./...

# Packages without the race detector: SQLite's own code, translated from C, would take a third of the time.
unchecked = $(foreach package,modernc.org/sqlite/lib modernc.org/libc,"-gcflags=$(package)=-race=false -d=checkptr=0")

fmt: ## fails if gofmt would change a file
	@unformatted=$$(gofmt -l cmd internal test); \
	if [ -n "$$unformatted" ]; then echo "gofmt -w" $$unformatted; exit 1; fi

vet:
	go vet ./...
	go vet -tags e2e,bench,conformance,kubernetes,charts,cluster ./test/...
	GOOS=windows go build -o /dev/null ./cmd/ferry
	GOOS=darwin go build -o /dev/null ./cmd/ferry

staticcheck:
	@test/tools.sh staticcheck
	.tools/staticcheck ./...
	.tools/staticcheck -tags s3 ./internal/... ./test/blobs
	.tools/staticcheck -tags e2e,bench,conformance,kubernetes,charts,cluster ./test/...

imports: ## the rules about which package may import which
	go test -count=1 -v ./test/imports

words: ## the words of docs/glossary.md, line lengths, links, and British spelling in text and comments
	@test/tools.sh misspell
	go test -count=1 ./test/words ./test/docs
	test/spelling.sh

build: ## the program for amd64, arm64 and armv7, within its size limit
	test/build.sh

image: build ## the image, as an OCI image layout in bin/image
	@test/tools.sh cyclonedx-gomod
	build/image.sh

dist: build ## the files of a release, in bin/dist; DIST=linux leaves out macOS and Windows
	@test/tools.sh nfpm
	build/dist.sh
	test/debian.sh

charts: build ## checks the charts and packages them into bin/charts; UPDATE=1 rewrites their golden files
	@test/tools.sh helm
	go test -count=1 -tags charts ./test/charts $(if $(UPDATE),-args -update)
	build/charts.sh

docs: ## writes the pages of docs/cli and docs/openapi.json from the program; `make test` compares them
	go test -count=1 -run TestReferencePagesMatchTheProgram ./internal/cli -args -update
	go test -count=1 -run TestOpenAPIFileMatchesTheProgram ./internal/cli -args -update

deploy: packages ## the alert rules, their unit tests, and the dashboard, against real instances
	go test -count=1 -v ./test/deploy

# The end-to-end tests whose root may be a cluster.
CLUSTER_CLIENTS = '^Test(Clients|Operator|Oras|Helm|Ferrys|UserStory|Links)'

cluster: packages ## a root on PostgreSQL and an object store behind a proxy: the specification's suite, clients, faults
	@test/tools.sh versitygw conformance crane regctl oras helm
	go test -count=1 -v -tags cluster -timeout 20m ./test/cluster
	go test -count=1 -v -tags e2e -timeout 10m -run $(CLUSTER_CLIENTS) -skip Stopped ./test/e2e -args -cluster

oidc: ## logins of people, with a real OpenID Connect provider in the process of the test
	cd test/oidc && go vet ./... && go test -count=1 ./...

s3: ## blobs in an object store: its contract, storage, instances and moves on it, and a parent on it and PostgreSQL
	@test/tools.sh versitygw
	go vet -tags s3 ./internal/storage/... ./internal/server ./internal/replication ./test/blobs
	go test -count=1 -tags s3 -parallel 8 -timeout 15m ./internal/storage/...
	go test -count=1 -tags s3 -timeout 15m -run ObjectStore ./internal/server
	CHAOS_SEEDS=$(or $(SEEDS),8) go test -count=1 -tags s3 -timeout 15m -run TestChaos ./internal/replication
	go test -count=1 -tags s3 -timeout 15m ./test/blobs

conformance: ## the OCI distribution specification's own suite
	@test/tools.sh conformance
	go test -count=1 -v -tags conformance -timeout 10m ./test/conformance

e2e: packages ## real clients, the user story, the quick start, and syncs over links that break
	@test/tools.sh crane regctl oras helm registry pebble pebble-challtestsrv crictl containerd-2.4/containerd
	go test -count=1 -v -tags e2e -timeout 15m ./test/e2e

kubernetes: packages kubernetes-tools ## Ferry on a Kubernetes node, as root
	go test -count=1 -v -tags kubernetes -timeout 15m ./test/kubernetes

bench: ## the figures of docs/performance.md; UPDATE=1 writes them there
	@test/tools.sh registry versitygw
	go test -count=1 -v -tags bench -timeout 60m -run Figures ./test/bench $(if $(UPDATE),-args -update)

bench-links: ## poor links, beside regsync and skopeo; UPDATE=1 writes the table into docs/performance.md
	@test/tools.sh regsync
	go test -count=1 -v -tags bench -timeout 60m -run Links ./test/bench $(if $(UPDATE),-args -update)

bench-fleet: ## a root of one process, and of two, with many connected registries; SITES=1000 SHARED=1000 IDLE=30s for less
	@test/tools.sh versitygw
	go test -count=1 -run XXX -bench LargeFleet ./internal/fleet
	go test -count=1 -v -tags bench -timeout 70m -run Fleet ./test/bench -args $(if $(SITES),-sites $(SITES)) \
		$(if $(SHARED),-shared $(SHARED)) $(if $(IDLE),-idle $(IDLE)) $(if $(UPDATE),-update)

chaos: ## SEEDS random histories of a site with failing links and parents, of its changes, and of its listings
	CHAOS_SEEDS=$(or $(SEEDS),1000) go test -count=1 -timeout 0 -run 'TestChaos|OverABadLink' ./internal/replication
	go test -count=1 -timeout 0 -run TestEveryAcknowledged ./internal/connected -rapid.checks $(or $(SEEDS),1000)
	LISTING_SEEDS=$(or $(SEEDS),1000) go test -count=1 -timeout 0 -run 'StartingAnew|Corrupted|RulesSay' ./internal/gateway

fuzz: ## a short run of every fuzz target; FUZZTIME=100000x for a longer one
	test/fuzz.sh

kubernetes-tools: ## the programs of a Kubernetes node, which take minutes to build the first time
	test/kubernetes/programs.sh
	@test/tools.sh helm containerd-2.4/containerd containerd-2.4/containerd-shim-runc-v2 containerd-2.4/ctr

tools: ## every tool of test/tools.txt
	test/tools.sh

packages:
	@test/packages.sh

clean:
	rm -rf bin .tools
