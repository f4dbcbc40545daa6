#!/usr/bin/env bash
# Runs every fuzz target of the module for FUZZTIME. Its default is a number of
# inputs and not a duration: at the end of a duration, Go before 1.27 sometimes
# fails with "context deadline exceeded" without a finding (go.dev/issue/75804).
set -euo pipefail
cd "$(dirname "$0")/.."

fuzztime=${FUZZTIME:-3000x}
targets=0
while IFS=: read -r file line; do
	name=${line#func }
	name=${name%%(*}
	go test -run '^$' -fuzz "^$name\$" -fuzztime "$fuzztime" "./$(dirname "$file")"
	targets=$((targets + 1))
done < <(grep -rE --include='*_test.go' '^func Fuzz[A-Z]' cmd internal test)
if ((targets == 0)); then
	echo "test/fuzz.sh: found no fuzz target" >&2
	exit 1
fi
echo "$targets fuzz targets"
