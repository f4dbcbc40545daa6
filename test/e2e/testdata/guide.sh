# Runs before the commands of a page of docs/install, which follow as they are written there. They
# run as root on a machine of their own: processes, mounts and network are those of new namespaces,
# and directories that the commands change are covered, so that nothing is left.
#
# Its surroundings: GUIDE is a directory with the program ferry, its image (image, tag v1) and an
# image layout to push (layout, tag v1). The root registry serves at root.example:5000, the
# connected registry ship1 has the repositories below apps/, and its client token is deckhand.
set -euo pipefail
umask 022

# Mounts.
mount --make-rprivate /
mkdir -p /run/netns
mount -t tmpfs tmpfs /run
mkdir -p /run/guide /run/covers /run/netns /run/lock
mount --bind "$GUIDE" /run/guide
mount -t tmpfs tmpfs /tmp
for dir in etc usr/local var root srv; do
	cover=/run/covers/${dir//\//-}
	mkdir -p "$cover/upper" "$cover/work"
	mount -t overlay overlay -o "lowerdir=/$dir,upperdir=$cover/upper,workdir=$cover/work" "/$dir"
done
export HOME=/root TMPDIR=/tmp
unset XDG_RUNTIME_DIR SSL_CERT_FILE FERRY_CONFIG_DIR FERRY_REGISTRY
rm -rf /etc/docker /etc/containers/registries.conf.d /etc/ferry /var/lib/ferry /root/.docker /root/.config
for store in docker containers; do # an overlay may not lie on another one
	mkdir -p /var/lib/$store
	mount -t tmpfs tmpfs /var/lib/$store
done

# Two machines, the root's and this one, and a network between them.
printf '127.0.0.1 localhost\n198.51.100.1 root.example\n198.51.100.2 ship1.example\n' >/etc/hosts
ip link set lo up
ip netns add root
ip link add link0 type veth peer name link0 netns root
ip addr add 198.51.100.2/24 dev link0
ip link set link0 up
ip -n root link set lo up
ip -n root addr add 198.51.100.1/24 dev link0
ip -n root link set link0 up

# Programs that the guides expect to be there.
install -m 0755 /run/guide/ferry /usr/local/bin/ferry
sudo() { "$@"; }

eventually() {
	{ local - && set +x; } 2>/dev/null
	for _ in $(seq 300); do
		if "$@" >/run/try 2>&1; then
			return
		fi
		sleep 0.2
	done
	echo "gave up on: $*" >&2
	cat /run/try >&2
	return 1
}

# The root and the ship, by the commands of the quick start.
ip netns exec root ferry serve --data-dir /run/root --listen 198.51.100.1:5000 >/run/root.log 2>&1 &
trap 'code=$?; ((code == 0)) || tail -n 30 /run/*.log >&2' EXIT
eventually grep -q 'msg="\?serving' /run/root.log
ferry login home --url http://root.example:5000 -u admin --password-stdin </run/root/initial-admin-password
ferry push-layout /run/guide/layout home/apps/alpine:3.22 --tag v1 >/dev/null
ferry connected-registry create -r home -n ship1 --repository 'apps/*' >/dev/null
ferry connected-registry get-settings -r home -n ship1 --parent-protocol http --generate-password 1 --yes \
	--query ACR_REGISTRY_CONNECTION_STRING -o tsv --to-file /run/ship1.connection
# Containers have no /etc/hosts that says where root.example is.
sed -i 's/<[^>]*>/198.51.100.1:5000/; s/root.example/198.51.100.1/' /run/ship1.connection
ferry scope-map create -r home -n pull-apps --repository 'apps/*' content/read metadata/read >/dev/null
ferry token create -r home -n deckhand --scope-map pull-apps \
	--query 'credentials.passwords[0].value' -o tsv --to-file /run/deckhand.password
ferry connected-registry update -r home -n ship1 --add-client-tokens deckhand >/dev/null

mkdir -p /etc/containers/registries.conf.d
printf '[[registry]]\nlocation = "root.example:5000"\ninsecure = true\n' >/etc/containers/registries.conf.d/root.conf
skopeo login root.example:5000 -u admin --password-stdin </run/root/initial-admin-password >/dev/null

# A person would look at the status until the site is in sync.
until_in_sync() {
	eventually in_sync "$@"
	cat /run/try
}
in_sync() { "$@" | tee /dev/stderr | grep -q 'In sync as of'; }

# The empty directory in which a guide begins.
mkdir /root/ship1
cd /root/ship1
cp /run/ship1.connection /run/deckhand.password .
