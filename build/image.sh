#!/usr/bin/env bash
# Makes the image of Ferry in bin/image, from the programs that test/build.sh
# built: an OCI image layout, with an SBOM of each platform and the provenance
# as referrers. The same commit gives the same digests.
set -euo pipefail
cd "$(dirname "$0")/.."
. build/origin.sh

for arch in amd64 arm64 arm; do
	.tools/cyclonedx-gomod bin -json -noserial -notimestamp -version "v$version" \
		-output "bin/$arch.cdx.json" "bin/ferry-linux-$arch" 2>/dev/null
done
go run ./build/image -version "${version//+/-}" -commit "$commit" -time "$SOURCE_DATE_EPOCH"
