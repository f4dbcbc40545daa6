# Stands for systemd, which cannot run in a test: systemctl and journalctl for the unit ferry, with
# its command, its user without capabilities, its state directory and its credential. The
# sandbox of the unit is checked by systemd-analyze only.
unit=/etc/systemd/system/ferry.service

systemctl() {
	case "$*" in
	daemon-reload) [[ ! -e $unit ]] || systemd-analyze verify "$unit" ;;
	"enable --now ferry") start_service ;;
	"restart ferry") stop_service && start_service ;;
	"reload ferry") kill -HUP "$service" && eventually grep -q 'settings were read again' /run/journal ;;
	"disable --now ferry") stop_service ;;
	"status ferry") kill -0 "$service" && cat /run/journal ;;
	*) echo "systemctl $*?" >&2 && return 1 ;;
	esac
}
journalctl() { cat /run/journal; }

# value prints the value of a key of the unit, with continued lines joined.
value() { sed -e ':a; /\\$/ { N; s/\\\n//; ba }' "$unit" | sed -n "s/^$1=//p"; }

start_service() {
	local state credential
	state=/var/lib/$(value StateDirectory)
	credential=$(value LoadCredential)
	export CREDENTIALS_DIRECTORY=/run/credentials/ferry.service
	mkdir -p "$CREDENTIALS_DIRECTORY"
	install -d -m 0700 -o 64000 -g 64000 "$state"
	install -m 0400 -o 64000 -g 64000 "${credential#*:}" "$CREDENTIALS_DIRECTORY/${credential%%:*}"
	local command
	eval "command=($(value ExecStart))"
	setpriv --reuid 64000 --regid 64000 --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all \
		"${command[@]}" >/run/journal 2>&1 &
	service=$!
	eventually grep -q 'msg="\?serving' /run/journal
}

stop_service() {
	kill "$service"
	wait "$service" || true
}

# A person would look at the status until the site is in sync.
ferry() {
	case "$*" in
	"sync status"*) until_in_sync command ferry "$@" ;;
	*) command ferry "$@" ;;
	esac
}
cp /run/guide/ferry ferry-linux-amd64
