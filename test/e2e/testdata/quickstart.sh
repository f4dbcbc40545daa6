# Runs before the commands of docs/quick-start.md, which follow as they are
# written there, but for addresses, directories and the image. Its surroundings:
# ferry, skopeo and podman on the path, an empty directory as the current one.
set -euo pipefail

trap 'code=$?; ((code == 0)) || tail -n 20 serve-*.log >&2; kill $(jobs -p); wait' EXIT

# Starts a registry and waits until it serves; the root's administrator then
# copies the password to where the commands expect it.
serve() {
	local log=serve-$((++count)).log
	command ferry serve "$@" >"$log" 2>&1 &
	eventually grep -q 'msg="\?serving' "$log"
	[[ -e initial-admin-password ]] || cp root/initial-admin-password .
}
count=0

ferry() {
	case $1 in
	serve) shift && serve "$@" ;;
	*) command ferry "$@" ;;
	esac
}

skopeo() { command skopeo --insecure-policy "$@"; }

# The ship hears of the token, and gets the image, a moment after the commands.
podman() {
	local input=
	[[ $1 != login ]] || input=$(cat)
	eventually podman_once "$input" "$@"
}
podman_once() { command podman "${@:2}" <<<"$1"; }

eventually() {
	for _ in $(seq 300); do
		if "$@" >try.log 2>&1; then
			return
		fi
		sleep 0.2
	done
	echo "gave up on: $*" >&2
	cat try.log >&2
	return 1
}
