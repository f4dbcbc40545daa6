#!/usr/bin/env bash
# Makes the files of a release in bin/dist, from the programs that test/build.sh
# built, and programs for macOS and Windows: programs, Debian packages and
# checksums. The same commit gives the same files. DIST=linux leaves out macOS
# and Windows.
set -euo pipefail
cd "$(dirname "$0")/.."
. build/origin.sh
umask 022

out=bin/dist
rm -rf "$out"
mkdir -p "$out"
cp bin/ferry-linux-amd64 bin/ferry-linux-arm64 "$out"
cp bin/ferry-linux-arm "$out/ferry-linux-armv7"
build() { # NAME GOOS GOARCH
	CGO_ENABLED=0 GOOS=$2 GOARCH=$3 go build -trimpath -buildvcs=auto -ldflags '-s -w' -o "$out/$1" ./cmd/ferry
}
if [[ ${DIST:-all} == all ]]; then
	build ferry-darwin-arm64 darwin arm64
	build ferry-darwin-amd64 darwin amd64
	build ferry-windows-amd64.exe windows amd64
fi

# Every architecture has the same scripts, so the program of this machine writes them.
mkdir -p bin/completion
for shell in bash zsh fish; do
	CGO_ENABLED=0 go run -trimpath ./cmd/ferry completion "$shell" >"bin/completion/$shell"
done

mtime=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
sed "s/MTIME/$mtime/" build/debian/nfpm.yaml >bin/nfpm.yaml # nfpm reads no variable there
export VERSION=$version
for pair in amd64:amd64 arm64:arm64 armhf:armv7; do
	DEB_ARCH=${pair%:*} PROGRAM=$out/ferry-linux-${pair#*:} \
		.tools/nfpm package --config bin/nfpm.yaml --packager deb \
		--target "$out/ferry_${version}_${pair%:*}.deb"
done
cd "$out"
files=(*)
sha256sum -- "${files[@]}" >SHA256SUMS
