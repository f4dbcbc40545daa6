#!/usr/bin/env bash
# The first process of a node, in namespaces of its own for processes and
# mounts: when it is killed, the kernel ends everything on the node, as a power
# cut does. NODE is the directory that has the node's disk, PATH has containerd,
# and LOGS is a directory. The arguments are more arguments for the kubelet.
set -euo pipefail

# The kernel's settings belong to the machine: the kubelet finds the values that
# it wants, and changes nothing.
setting() { # NAME VALUE
	mkdir -p "$(dirname "/run/settings/$1")"
	echo "$2" >"/run/settings/$1"
	mount --bind "/run/settings/$1" "/proc/sys/$1"
}

mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
mount --bind "$NODE/etc" /etc
mount --bind "$NODE/var" /var
setting vm/overcommit_memory 1
setting vm/panic_on_oom 0
setting kernel/panic 10
setting kernel/panic_on_oops 1
setting kernel/keys/root_maxkeys 1000000
setting kernel/keys/root_maxbytes 25000000
mount --make-rshared /

# A service is started again when it ends, as systemd does it: the kubelet ends
# if containerd does not answer yet.
service() {
	while true; do
		"$@" >>"$LOGS/$1" 2>&1 || sleep 0.2
	done
}
service containerd &
service kube-proxy --config=/etc/kubernetes/kube-proxy.yaml &
service kubelet --config=/etc/kubernetes/kubelet.yaml --kubeconfig="$KUBECONFIG" \
	--hostname-override="$NAME" --node-ip="$ADDRESS" "$@" &
wait
