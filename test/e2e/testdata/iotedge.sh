# Stands for the runtime of IoT Edge, which needs a hub in the cloud: it gives the options of a module
# to Docker as they are.
run_module() { # FILE
	jq '.modulesContent["$edgeAgent"]["properties.desired"].modules["connected-registry"] |
		(.settings.createOptions | fromjson) +
		{Image: "localhost/ferry:1.0", Env: [.env | to_entries[] | .key + "=" + .value.value]}' "$1" >/run/module.json
	skopeo copy docker://root.example:5000/ferry:1.0 docker-archive:ferry.tar:localhost/ferry:1.0
	docker load --input ferry.tar
	curl --silent --show-error --fail-with-body --unix-socket /run/docker.sock --json @/run/module.json \
		"http://docker/containers/create?name=connected-registry"
	docker start connected-registry
	docker exec connected-registry ferry sync status --data-dir /var/lib/ferry
	curl --silent --output /dev/null --write-out '%{http_code}\n' \
		"http://$(docker inspect --format '{{.NetworkSettings.IPAddress}}' connected-registry):8080/v2/" | grep 401
}
