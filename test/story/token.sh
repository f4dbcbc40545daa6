# The client token of the user story, for sourcing after register.sh.

# Configure a client token.
allowedRepositories=$(grep '^somenamespace/' <<<"$existingRepositories")
allowedRepositoriesString=$(sed 's/.*/--repository & content\/read/' <<<"$allowedRepositories")
scopemapName=myscopemap
az acr scope-map create -n $scopemapName -r $azureContainerRegistry \
	--description 'Scope map for connected registry client token' $allowedRepositoriesString
tokenName=myclienttoken
token=$(az acr token create -n $tokenName -r $azureContainerRegistry --scope-map $scopemapName)
az acr connected-registry update --registry $azureContainerRegistry --name $connectedRegistryName \
	--add-client-tokens $tokenName >"$SITE/updated"
jq -e '.clientTokenIds | length == 1' "$SITE/updated"

# The user and password of the pull secret.
pullSecretUserName=$(jq -r .credentials.username <<<"$token")
pullSecretPassword=$(jq -r '.credentials.passwords[0].value' <<<"$token")
