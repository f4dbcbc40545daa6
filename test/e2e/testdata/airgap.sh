# The site serves, and a root without a link, at another address of this machine.
ferry serve --data-dir /run/ship1 --listen 198.51.100.2:5000 --tls own-ca --tls-names ship1.example \
	--connection-string-file ship1.connection >/run/ship1.log 2>&1 &
ip addr add 198.51.100.3/24 dev link0
echo 198.51.100.3 island.example >>/etc/hosts
ferry serve --data-dir /run/island --listen 198.51.100.3:5000 --tls own-ca --tls-names island.example \
	>/run/island.log 2>&1 &
until_in_sync ferry sync status --data-dir /run/ship1
cp /run/ship1/tls/ca.crt .
eventually test -e /run/island/initial-admin-password
cp /run/island/initial-admin-password .
eventually curl --silent --insecure --output /dev/null https://island.example:5000/ca.crt
cat ca.crt /run/island/tls/ca.crt >>/etc/ssl/certs/ca-certificates.crt
# The site gets what was pushed at home a moment later.
podman() {
	case $1 in
	pull) eventually command podman "$@" ;;
	*) command podman "$@" ;;
	esac
}
