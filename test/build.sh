#!/usr/bin/env bash
# Builds the program for every platform of a release, into bin/, and checks
# its promises: static, without cgo, below 35 MiB.
set -euo pipefail
cd "$(dirname "$0")/.."

limit=$((35 << 20)) # bytes
for platform in amd64 arm64 arm; do
	out=bin/ferry-linux-$platform
	CGO_ENABLED=0 GOOS=linux GOARCH=$platform GOARM=7 \
		go build -trimpath -buildvcs=auto -ldflags '-s -w' -o "$out" ./cmd/ferry
	size=$(stat -c %s "$out")
	echo "$out: $size bytes"
	if ((size > limit)); then
		echo "$out: more than $limit bytes" >&2
		exit 1
	fi
	# The headers of a dynamic program name its linker.
	if grep -qaE '/lib(64)?/ld-(linux|musl)' "$out"; then
		echo "$out: is not static" >&2
		exit 1
	fi
done
