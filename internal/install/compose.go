package install

import (
	"fmt"
	"strings"
)

// Compose plans a project of Docker Compose: one service with the image of Ferry, which keeps
// its data in a volume, or in a directory of the host. The file works with Compose 1.27 and
// later, and with podman-compose.
func Compose(o Options) (Plan, error) {
	if o.Image == "" {
		return Plan{}, errNoImage
	}
	if o.Port == 0 {
		o.Port = imagePort
	}
	volume := "data"
	if o.DataDir != "" {
		volume = o.DataDir
	}
	var t strings.Builder
	fmt.Fprintf(&t, `# The connected registry %s. Written by ferry install compose.
services:
  registry:
    image: %q
    command: ["serve"]
    restart: unless-stopped
    stop_grace_period: 30s
    user: "%d:%d"
    read_only: true
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    ports: ["%d:%d"]
    environment:
      FERRY_CONNECTION_STRING_FILE: /run/secrets/%s
`, o.Connection.Name, dollars(o.Image), imageUser, imageUser, o.Port, imagePort, connectionFile)
	for _, s := range o.settings() {
		fmt.Fprintf(&t, "      %s: %q\n", s.variable(), dollars(s.value))
	}
	volumes := []string{volume + ":" + imageData}
	if o.ParentCA != "" {
		fmt.Fprintf(&t, "      SSL_CERT_FILE: /etc/ferry/%s\n", caFile)
		volumes = append(volumes, fmt.Sprintf("./%s:/etc/ferry/%[1]s:ro", caFile))
	}
	fmt.Fprintf(&t, `    secrets: [%[1]s]
    volumes: ["%[2]s"]
    # It fails if the instance does not answer, not if it is out of sync. A start may migrate a
    # large database.
    healthcheck:
      test: ["CMD", "ferry", "sync", "status", "--data-dir", "%[3]s", "--open"]
      interval: 1m
      timeout: 10s
      retries: 3
      start_period: 10m
    # Docker keeps all log lines for ever by default, which fills the disk.
    logging:
      driver: json-file
      options: {max-size: "10m", max-file: "3"}
secrets:
  %[1]s:
    file: ./%[1]s
`, connectionFile, strings.Join(volumes, `", "`), imageData)
	if o.DataDir == "" {
		t.WriteString("volumes:\n  data: {}\n")
	}
	p := Plan{Files: append([]File{{Name: "compose.yaml", Text: t.String()}, o.connection(imageUser)}, o.ca()...)}
	p.Next = o.enter()
	if o.DataDir != "" {
		p.Next = append(p.Next, "# The user of the image owns the data.",
			fmt.Sprintf("sudo install -d -m 0700 -o %d -g %d %s", imageUser, imageUser, o.DataDir))
	}
	p.Next = append(p.Next, "docker compose up -d",
		"docker compose exec registry ferry sync status --data-dir "+imageData)
	p.Next = append(p.Next, o.clients("docker", "HOST", o.Port)...)
	return p, nil
}

// dollars escapes dollar signs, which stand for variables in a compose file.
func dollars(s string) string { return strings.ReplaceAll(s, "$", "$$") }

// clients returns the commands with which machines at the site can pull. They run on each of
// those machines.
func (o Options) clients(runtime, host string, port int) []string {
	url := o.url(host, port)
	if strings.Count(url, "/") > 2 {
		runtime = "containerd" // no other one knows a registry below a path
	}
	if strings.HasPrefix(url, "http://") || o.ExternalURL != "" {
		return []string{"# On each machine that pulls:",
			fmt.Sprintf("sudo ferry client configure %s --endpoint %s", runtime, url)}
	}
	return []string{"# On each machine that pulls. Compare the fingerprint with the one in the log:",
		"curl --silent --show-error --insecure --output ca.crt " + url + "/ca.crt",
		"openssl x509 -in ca.crt -noout -fingerprint -sha256",
		fmt.Sprintf("sudo ferry client configure %s --endpoint %s --ca ca.crt", runtime, url)}
}
