#!/usr/bin/env bash
# Packages the charts into bin/charts, with the version of the programs that
# test/build.sh built. helm push sends them to a registry.
set -euo pipefail
cd "$(dirname "$0")/.."
. build/origin.sh

out=bin/charts
rm -rf "$out"
mkdir -p "$out"
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
export HELM_CONFIG_HOME=$home HELM_CACHE_HOME=$home HELM_DATA_HOME=$home
for chart in charts/*/; do
	# The image's tag, which is the appVersion, cannot have a +.
	.tools/helm package "$chart" --version "$version" --app-version "${version//+/-}" --destination "$out"
done
