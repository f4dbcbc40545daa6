#!/usr/bin/env bash
# The user story, with the commands as they are written there, and the connected
# registry as a process. Its surroundings: those of test/story/register.sh, skopeo
# on the path, the PARENT_PIDS of the parent's processes.
set -euo pipefail

# Waits until a command succeeds, for at most a minute.
eventually() {
	for _ in $(seq 300); do
		if "$@" >"$SITE/try" 2>&1; then
			return
		fi
		sleep 0.2
	done
	echo "gave up on: $*" >&2
	cat "$SITE/try" >&2
	return 1
}

. ../story/register.sh
echo "to sync:" $repositoriesToSync

# Deploy the connected registry.
ferry serve --data-dir "$SITE/data" --listen 127.0.0.1:0 --chunk-size 1MiB \
	--connection-string "$connectionString" >"$SITE/log" 2>&1 &
connected=$!
trap 'code=$?; kill $connected; wait $connected || true; ((code == 0)) || cat "$SITE/log" >&2' EXIT
address() { sed -nE 's/.*msg="?serving.* url="?https?:\/\/([^" ]+).*/\1/p' "$SITE/log" | grep .; }
eventually address
connectedRegistryAddress=$(address)

. ../story/token.sh

# Pull with it, from the connected registry.
inspect() { # prints the digest of repository $1 at the connected registry
	skopeo --insecure-policy inspect --no-tags --tls-verify=false --format '{{.Digest}}' \
		--creds "$pullSecretUserName:$pullSecretPassword" "docker://$connectedRegistryAddress/$1:v1"
}
pull() { # into directory $2
	skopeo --insecure-policy copy --quiet --src-tls-verify=false \
		--src-creds "$pullSecretUserName:$pullSecretPassword" "docker://$connectedRegistryAddress/$1:v1" "dir:$2"
}
for repository in $repositoriesToSync; do
	eventually pull "$repository" "$SITE/pulled"
	echo "pulled $repository $(inspect "$repository")"
done
if pull othernamespace/app "$SITE/other" 2>"$SITE/try"; then
	echo "pulled what is not in the namespace" >&2
	exit 1
fi
online() {
	az acr connected-registry show --registry $azureContainerRegistry --name $connectedRegistryName |
		jq -e '.connectionState == "Online" and .activation.status == "Active"'
}
eventually online

# With the parent switched off.
kill $PARENT_PIDS
for pid in $PARENT_PIDS; do
	tail --pid="$pid" -f /dev/null
done
for repository in $repositoriesToSync; do
	rm -rf "$SITE/pulled"
	pull "$repository" "$SITE/pulled"
	echo "pulled offline $repository $(inspect "$repository")"
done
