# Stands for K3s, which cannot run in a test: the directories that it has made.
mkdir -p /etc/rancher/k3s /var/lib/rancher/k3s/agent/etc/containerd/certs.d
: >/var/lib/rancher/k3s/agent/etc/containerd/config.toml
ferry push-layout /run/guide/layout home/ferry:0.1.0 --tag v1 >/dev/null
