#!/usr/bin/env bash
# Builds the program for every platform it is released on, into bin/, and
# holds it to what is promised of it: static, without cgo, below 40 MB.
set -euo pipefail
cd "$(dirname "$0")/.."

limit=40000000 # bytes
for platform in amd64 arm64 arm; do
	out=bin/ferry-linux-$platform
	CGO_ENABLED=0 GOOS=linux GOARCH=$platform GOARM=7 \
		go build -trimpath -ldflags '-s -w' -o "$out" ./cmd/ferry
	size=$(stat -c %s "$out")
	echo "$out: $size bytes"
	if ((size > limit)); then
		echo "$out: more than $limit bytes" >&2
		exit 1
	fi
	# A program that needs a dynamic linker names it in its headers.
	if grep -qaE '/lib(64)?/ld-(linux|musl)' "$out"; then
		echo "$out: is not static" >&2
		exit 1
	fi
done
