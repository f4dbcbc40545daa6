#!/usr/bin/env bash
# The user story, with the commands as they are written there. Its
# surroundings: ferry, skopeo and jq on the path, a login saved as
# "mycontainerregistry", the parent's PARENT_PID, an empty directory SITE.
set -euo pipefail

az() { shift; ferry "$@"; }

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

# Specify the repositories that must be synced.
azureContainerRegistry=mycontainerregistry
existingRepositories=$(az acr repository list --name $azureContainerRegistry | jq -r '.[]')
repositoriesToSync=$(grep '^somenamespace/' <<<"$existingRepositories")
echo "to sync:" $repositoriesToSync

# Create the connected registry.
connectedRegistryName=myconnectedregistry
az acr connected-registry create --name $connectedRegistryName --registry $azureContainerRegistry \
	--mode ReadOnly --sync-schedule '30 * * * *' --sync-window PT1H \
	--repository $repositoriesToSync >"$SITE/created"
jq -e '.parent.syncProperties | .schedule == "30 * * * *" and .syncWindow == "PT1H"' "$SITE/created"

# Get the connection string.
credentials=$(az acr connected-registry get-settings \
	--name $connectedRegistryName \
	--registry $azureContainerRegistry \
	--parent-protocol http \
	--generate 1 \
	--yes)

# Deploy the connected registry.
ferry serve --data-dir "$SITE/data" --listen 127.0.0.1:0 --chunk-size 1MiB \
	--connection-string "$(jq -r .ACR_REGISTRY_CONNECTION_STRING <<<"$credentials")" >"$SITE/log" 2>&1 &
connected=$!
trap 'code=$?; kill $connected; wait $connected || true; ((code == 0)) || cat "$SITE/log" >&2' EXIT
address() { sed -nE 's/.*msg="?serving.* url="?https?:\/\/([^" ]+).*/\1/p' "$SITE/log" | grep .; }
eventually address
connectedRegistryAddress=$(address)

# Configure a client token.
allowedRepositories=$(sed 's/$/ content\/read/; s/^/--repository /' <<<"$repositoriesToSync")
scopemapName=myscopemap
az acr scope-map create -n $scopemapName -r $azureContainerRegistry \
	--description 'Scope map for connected registry client token' $allowedRepositories
tokenName=myclienttoken
token=$(az acr token create -n $tokenName -r $azureContainerRegistry --scope-map $scopemapName)
az acr connected-registry update --registry $azureContainerRegistry --name $connectedRegistryName \
	--add-client-tokens $tokenName >"$SITE/updated"
jq -e '.clientTokenIds | length == 1' "$SITE/updated"

# Pull with it, from the connected registry.
pullSecretUserName=$(jq -r .credentials.username <<<"$token")
pullSecretPassword=$(jq -r '.credentials.passwords[0].value' <<<"$token")
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
kill "$PARENT_PID"
tail --pid="$PARENT_PID" -f /dev/null
for repository in $repositoriesToSync; do
	rm -rf "$SITE/pulled"
	pull "$repository" "$SITE/pulled"
	echo "pulled offline $repository $(inspect "$repository")"
done
