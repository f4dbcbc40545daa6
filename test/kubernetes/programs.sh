#!/usr/bin/env bash
# Builds the programs of a Kubernetes node into .tools/kubernetes: one program
# of about 150 MB, and a link to it by each of its names. The build from an
# empty cache takes minutes, so it is done again only if the versions or the
# source have changed.
set -euo pipefail
cd "$(dirname "$0")/programs"
out=$(cd ../../.. && pwd)/.tools/kubernetes

stamp=$({ go version; cat go.mod go.sum main.go; } | sha256sum | cut -d' ' -f1)
if [[ $(cat "$out/stamp" 2>/dev/null) == "$stamp" ]]; then
	exit 0
fi
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
echo "build the programs of Kubernetes $version"
mkdir -p "$out"
CGO_ENABLED=0 GOFLAGS= GOWORK=off go build -trimpath \
	-ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$version" -o "$out/kubernetes" .
for name in kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl; do
	ln -sf kubernetes "$out/$name"
done
echo "$stamp" >"$out/stamp"
