#!/usr/bin/env bash
# The user story on a Kubernetes node, with the commands as they are written
# there. Its surroundings: those of test/story/register.sh, helm, kubectl and
# skopeo on the path, NODE_PID and NODE_PATH to run commands on the node, the
# namespace mynamespace, and the parent's PARENT_PID.
set -euo pipefail

on_node() { nsenter --target "$NODE_PID" --mount --pid -- env PATH="$NODE_PATH" "$@"; }

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

# The parent has no TLS, and the node pulls Ferry's image from it.
PARENT_PROTOCOL=http
ALSO_SYNC=ferry
. ../story/register.sh

# Deploy the connected registry, where pods have no more rights than they need.
kubectl create namespace connected-registry --dry-run=client -o yaml | kubectl apply -f -
kubectl label namespace connected-registry pod-security.kubernetes.io/enforce=restricted
parent=$(sed -E 's/.*ParentGatewayEndpoint=([^;]*).*/\1/' <<<"$connectionString")
on_node ferry client configure containerd --endpoint "http://$parent"
helm upgrade -n connected-registry --install --wait --timeout 2m \
	--set connectionString="$connectionString" \
	--set httpEnabled=true \
	--set sync.chunkSizeInMb="1" \
	--set pvc.storageClassName="local-path" --set pvc.storageRequest="20Gi" \
	connected-acr ../../charts/connected-registry
kubectl get pods -n connected-registry

# Configure pulling from a private registry.
connectedRegistryIp=$(kubectl get service $connectedRegistryName -o=jsonpath='{@.spec.clusterIP}' -n connected-registry)
on_node ferry client configure containerd --endpoint "http://$connectedRegistryIp:80"

. ../story/token.sh

# Create a pull secret for the connected registry.
connectedRegistryUrl="http://$connectedRegistryIp:80"
kubectl delete secret mypullsecretname --ignore-not-found -n mynamespace
kubectl create secret docker-registry mypullsecretname --docker-server="$connectedRegistryUrl" \
	--docker-username="$pullSecretUserName" --docker-password="$pullSecretPassword" -n mynamespace

# Wait for the sync, and switch the parent off.
in_sync() {
	az acr connected-registry sync-status --registry $azureContainerRegistry --name $connectedRegistryName |
		grep '^In sync as of'
}
knows_token() {
	skopeo inspect --no-tags --tls-verify=false --creds "$pullSecretUserName:$pullSecretPassword" \
		"docker://$connectedRegistryIp:80/somenamespace/app:v1"
}
eventually in_sync
eventually knows_token
kill "$PARENT_PID"
tail --pid="$PARENT_PID" -f /dev/null

# Run a pod from the connected registry.
kubectl apply -n mynamespace -f - <<END
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      imagePullSecrets: [{name: mypullsecretname}]
      securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
      containers:
      - name: app
        image: $connectedRegistryIp:80/somenamespace/app:v1
        securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
END
kubectl rollout status -n mynamespace deployment/app --timeout=120s
