//go:build kubernetes

package kubernetes

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"ferry/test/instance"
)

func TestPodStartsWithAPullSecret(t *testing.T) {
	for _, runtime := range containerds {
		t.Run("containerd "+runtime.version, func(t *testing.T) {
			c := startCluster(t)
			n := startNode(t, c, runtime)
			root := instance.Start(t, instance.Options{Listen: rootAddress + ":5000"})
			if err := root.AsAdmin(t).Push(t.Context(), "apps/web", programImage(t, "v1", pause(t), 7)); err != nil {
				t.Fatal(err)
			}
			n.allowHTTP(t, root.Host)
			c.do(t, "kubectl", "create", "secret", "docker-registry", "pull", "--docker-server=http://"+root.Host,
				"--docker-username=admin", "--docker-password="+root.AdminPassword(t))
			c.deploy(t, "web", root.Host+"/apps/web:v1", "imagePullSecrets: [{name: pull}]")
		})
	}
}

// allowHTTP lets containerd pull from a registry without TLS.
func (n *node) allowHTTP(t *testing.T, host string) {
	t.Helper()
	writeFile(t, filepath.Join(n.disk, "etc/containerd/certs.d", host, "hosts.toml"),
		fmt.Sprintf("[host.%q]\n", "http://"+host))
	if n.containerd.version == "2.4" {
		// It takes its default of two directories for one.
		link := filepath.Join(n.disk, "etc/containerd/certs.d:/etc/docker/certs.d")
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("/etc/containerd/certs.d", link); err != nil {
			t.Fatal(err)
		}
	}
}

// deploy runs an image in a Deployment of the default namespace, under the "restricted" policy,
// and returns once its pod runs. spec has more fields of the pod, in YAML.
func (c *cluster) deploy(t *testing.T, name, image, spec string) {
	t.Helper()
	c.apply(t, fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      %[3]s
      automountServiceAccountToken: false
      securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
      containers:
      - name: app
        image: %[2]s
        imagePullPolicy: Always
        securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
`, name, image, spec))
	c.do(t, "kubectl", "rollout", "status", "--timeout=120s", "deployment/"+name)
}
