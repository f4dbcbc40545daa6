# The registry of this guide is a root of its own.
echo 198.51.100.2 registry.example www.example >>/etc/hosts
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=registry.example \
	-addext subjectAltName=DNS:registry.example,DNS:www.example -keyout registry.key -out registry.crt 2>/dev/null
cat registry.crt >>/etc/ssl/certs/ca-certificates.crt
cp -r /run/guide/layout alpine
sed -i 's/"v1"/"3.22"/' alpine/index.json

ferry() {
	case $1 in
	serve)
		command ferry "$@" >/run/registry.log 2>&1 &
		eventually grep -q 'msg="\?serving' /run/registry.log
		cp /var/lib/ferry/initial-admin-password .
		;;
	*) command ferry "$@" ;;
	esac
}

# nginx has the new configuration a moment after the reload.
mkdir -p /run/nginx /var/log/nginx
rm -f /etc/nginx/sites-enabled/*
nginx
nginx() {
	command nginx "$@"
	if [[ $* == "-s reload" && -e /etc/nginx/conf.d/www.conf ]]; then
		eventually curl --silent --fail --output /dev/null https://www.example/registry/health
	elif [[ $* == "-s reload" && -e /etc/nginx/conf.d/registry.conf ]]; then
		eventually curl --silent --fail --output /dev/null https://registry.example/health
	fi
}
