#!/usr/bin/env bash
# Installs missing Debian packages that tests need. Without root it prints the
# command that installs them.
set -euo pipefail

packages=(skopeo podman containerd docker.io docker-compose postgresql jq prometheus etcd-server runc
	containernetworking-plugins iptables iproute2 nginx-light openssl curl systemd bash-completion fish zsh)

missing=()
for p in "${packages[@]}"; do
	if [[ $(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null) != installed ]]; then
		missing+=("$p")
	fi
done
if ((${#missing[@]} == 0)); then
	exit 0
fi
if ((EUID != 0)); then
	echo "missing Debian packages: ${missing[*]}" >&2
	echo "hint: sudo apt-get install --no-install-recommends ${missing[*]}" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -q update
apt-get -q -y install --no-install-recommends "${missing[@]}"
