#!/usr/bin/env bash
# Finds misspelt words in everything that people write, and American spelling
# in text and comments. Identifiers are spelt as in Go's library.
set -euo pipefail
cd "$(dirname "$0")/.."

# Words of specifications, names of variables, of functions in their comments, and a mistake
# that a test makes on purpose.
known=artifact,catalog,catalogs,unauthorized,dialing,analyze,normalize,prioritize,conected,humanize,color

code=() text=()
while IFS= read -r -d '' file; do
	case $file in
	deploy/grafana/*.json | go.mod | go.sum | */go.mod | */go.sum | *.svg | */testdata/fuzz/*) ;;
	*.go) code+=("$file") ;;
	*) text+=("$file") ;;
	esac
done < <(git ls-files -z)

failed=0
.tools/misspell -error -i "$known" "${code[@]}" || failed=1
.tools/misspell -error -i "$known" -locale UK -source go "${code[@]}" || failed=1
.tools/misspell -error -i "$known" -locale UK "${text[@]}" || failed=1
exit "$failed"
