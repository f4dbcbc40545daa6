#!/usr/bin/env bash
# Prints the directory for files that tests write: a directory in memory if
# programs may run in it and it has room for 2 GiB, otherwise the usual one.
set -euo pipefail
usual=${TMPDIR:-/tmp} memory=/dev/shm
options=$(awk -v dir="$memory" '$2 == dir { print $4 }' /proc/mounts 2>/dev/null || true)
room=$(df -Pk "$memory" 2>/dev/null | awk 'NR == 2 { print $4 }' || true)
if [[ -w $memory && -n $options && ,$options, != *,noexec,* && ${room:-0} -ge $((2 << 20)) ]]; then
	echo "$memory"
else
	echo "$usual"
fi
