# Starts Docker, and puts the image of Ferry into the root.
mkdir -p /run/docker
dockerd --exec-root /run/docker --pidfile /run/docker.pid >/run/docker.log 2>&1 &
eventually command docker version
ferry push-layout /run/guide/image home/ferry:1.0 --tag v1 >/dev/null

# Debian has an earlier Compose than the guides name, as a program of its own, and there is no
# terminal.
docker() {
	case "$*" in
	*"ferry sync status"*) until_in_sync without_terminal "$@" ;;
	*) without_terminal "$@" ;;
	esac
}
without_terminal() {
	case "$1 ${2-}" in
	"compose exec") docker-compose exec -T "${@:3}" ;;
	compose*) docker-compose "${@:2}" ;;
	*) command docker "$@" ;;
	esac
}
