#!/usr/bin/env bash
# Installs the tools of test/tools.txt into .tools/: all of them, or those that
# the arguments name. A tool in its pinned version is kept, any other one is
# replaced.
set -euo pipefail
cd "$(dirname "$0")/.."

installed() { # prints the version of the module that .tools/$1 was built from
	go version -m ".tools/$1" 2>/dev/null | awk '$1 == "mod" { print $3 }'
}

known=
while read -r name module _; do
	case $name in '' | '#'*) continue ;; esac
	known+=" $name"
	if (($#)) && [[ " $* " != *" $name "* ]]; then
		continue
	fi
	if [[ $(installed "$name") == "${module##*@}" ]]; then
		continue
	fi
	echo "install $module"
	GOBIN=$(dirname "$PWD/.tools/$name") GOFLAGS= GOWORK=off go install "$module"
done <test/tools.txt

for name in "$@"; do
	if [[ "$known " != *" $name "* ]]; then
		echo "test/tools.sh: test/tools.txt has no $name" >&2
		exit 1
	fi
done
