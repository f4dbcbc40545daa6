# The user story up to the connection string, in bash, with the commands as they are written there.
# For sourcing: by the story with a process (test/e2e) and by that with a cluster (test/kubernetes).
# Its surroundings: ferry and jq on the path, a login saved as "mycontainerregistry", SITE an empty
# directory. PARENT_PROTOCOL is https by default; ALSO_SYNC is one more repository for the site.
az() { shift; ferry "$@"; }

# Specify the repositories that must be synced.
azureContainerRegistry=mycontainerregistry
existingRepositories=$(az acr repository list --name $azureContainerRegistry | jq -r '.[]')
repositoriesToSync=$(grep '^somenamespace/' <<<"$existingRepositories")
repositoriesToSyncString="$repositoriesToSync ${ALSO_SYNC-}"

# Create the connected registry.
connectedRegistryName=myconnectedregistry
az acr connected-registry create --name $connectedRegistryName --registry $azureContainerRegistry \
	--mode ReadOnly --sync-schedule '30 * * * *' --sync-window PT1H \
	--repository $repositoriesToSyncString >"$SITE/created"
jq -e '.parent.syncProperties | .schedule == "30 * * * *" and .syncWindow == "PT1H"' "$SITE/created"

# Get the connection string.
credentials=$(az acr connected-registry get-settings \
	--name $connectedRegistryName \
	--registry $azureContainerRegistry \
	--parent-protocol "${PARENT_PROTOCOL:-https}" \
	--generate 1 \
	--yes)
connectionString=$(jq -r .ACR_REGISTRY_CONNECTION_STRING <<<"$credentials")
