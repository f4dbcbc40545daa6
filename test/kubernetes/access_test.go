//go:build kubernetes

package kubernetes

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/test/instance"
)

// Names and addresses of the connected registry in the cluster.
const (
	release     = "connected-acr"
	namespace   = "connected-registry"
	serviceIP   = "10.96.7.7"
	clientToken = "nodes"
)

// A trust is a way for nodes to trust the connected registry.
type trust struct {
	name     string
	endpoint string
	values   []string // of the chart
}

var (
	ownCA     = trust{"its own CA", "https://" + serviceIP, []string{"httpEnabled=false"}}
	plainHTTP = trust{"HTTP", "http://" + serviceIP + ":80", []string{"httpEnabled=true"}}
)

// host is how images name the connected registry.
func (w trust) host() string { return w.endpoint[strings.LastIndex(w.endpoint, "/")+1:] }

// TestNodesPullInEveryWay installs the chart, switches the root off, and starts pods with each kind
// of credentials, over each kind of trust, from the connected registry's own name and from Docker
// Hub's. In between, the pod is killed, the node restarted, and the chart upgraded.
func TestNodesPullInEveryWay(t *testing.T) {
	for _, runtime := range containerds {
		t.Run("containerd "+runtime.version, func(t *testing.T) {
			a := startAccess(t, runtime)
			before := a.node.files(t)
			a.upgrade(t, ownCA)
			a.awaitSync(t)
			a.root.Kill(t)
			a.pullSecret(t, ownCA)
			a.start(t, ownCA, "pull secret")
			a.doctor(t)

			a.kill(t)
			a.nodeCredentials(t, ownCA)
			a.start(t, ownCA, "header")

			a.nodeCredentials(t, plainHTTP)
			a.start(t, plainHTTP, "header")

			a.upgrade(t, plainHTTP)
			a.pullSecret(t, plainHTTP)
			a.start(t, plainHTTP, "pull secret")

			a.credentialProvider(t)
			a.start(t, plainHTTP, "credential provider")
			a.upgrade(t, ownCA)
			a.start(t, ownCA, "credential provider")

			a.startRoot(t)
			a.upgrade(t, ownCA, "sync.chunkSizeInMb=2") // polls the root at once, and not after a back-off
			a.syncs(t)
			a.do(t, "helm", "uninstall", release, "-n", namespace, "--wait", "--timeout", "2m")
			a.awaitNoPods(t)
			a.removeCredentialProvider(t)
			if diff := cmp.Diff(before, a.node.files(t)); diff != "" {
				t.Errorf("the node's files before the installation, and after it (-, +):\n%s", diff)
			}
		})
	}
}

// access is a network whose node uses the connected registry in one way after another.
type access struct {
	*network
	connection instance.Connection
	login      instance.Login // of the client token
	password   string         // a file with its password
	started    int            // pods so far; each has an image of its own
}

// operatorsHosts is a file that the node's operator had before.
const operatorsHosts = `# Nobody may change this file without a ticket.
server = "https://registry-1.docker.io"

[host."https://cache.example:5000"] # is to be replaced
  capabilities = ["pull"]
  owner = "platform team"
`

// startAccess starts a network, and creates a connected registry that is not installed yet.
func startAccess(t *testing.T, runtime containerd) *access {
	t.Helper()
	var repos []string
	for i := range 6 {
		repos = append(repos, fmt.Sprintf("apps/web%d", i), fmt.Sprintf("docker.io/library/web%d", i))
	}
	a := &access{network: startNetwork(t, runtime, poorLink, repos...)}
	a.apply(t, `
apiVersion: v1
kind: Namespace
metadata: {name: connected-registry, labels: {pod-security.kubernetes.io/enforce: restricted}}
`)
	a.admin.Run(t, "scope-map", "create", "--name", "pullers", "--repository", "apps/*", "content/read", "--repository",
		"docker.io/*", "content/read")
	a.login = instance.Token(t, a.admin, clientToken, "pullers")
	a.password = filepath.Join(a.dir, "password")
	writeFile(t, a.password, a.login.Password)
	a.connection = instance.Connect(t, a.admin, "myconnectedregistry", a.link.Host,
		[]string{"apps/*", "docker.io/*", "ferry"}, "--client-tokens", clientToken)
	writeFile(t, filepath.Join(a.node.disk, "etc/containerd/certs.d/docker.io/hosts.toml"), operatorsHosts)
	// The node has Ferry's image already, as where the link is too poor for containerd.
	a.node.importImage(t, a.image, a.link.Host+"/ferry:"+chartVersion(t))
	return a
}

// upgrade installs the chart, or upgrades it, and waits until it has configured the node.
func (a *access) upgrade(t *testing.T, w trust, values ...string) {
	t.Helper()
	values = append(append(values, w.values...),
		"connectionString="+a.connection.ConnectionString,
		"pvc.storageClassName=local-path",
		"pvc.storageRequest=20Gi",
		"service.clusterIP="+serviceIP,
		"trustDistribution.enabled=true",
		"trustDistribution.namespace=connected-registry-nodes",
		"trustDistribution.createNamespace=true",
		"trustDistribution.mirrorOf={docker.io}")
	args := []string{"helm", "upgrade", "--install", "--wait", "--timeout", "2m", "-n", namespace, release,
		"../../charts/connected-registry"}
	for _, v := range values {
		args = append(args, "--set", v)
	}
	a.do(t, args...)
}

// nodeCredentials upgrades the chart so that it gives the nodes the token.
func (a *access) nodeCredentials(t *testing.T, w trust) {
	t.Helper()
	a.do(t, "kubectl", "delete", "secret", "pull", "--ignore-not-found")
	a.upgrade(t, w, "trustDistribution.nodeCredentials.token="+clientToken,
		"trustDistribution.nodeCredentials.password="+a.login.Password)
}

// pullSecret makes the pull secret of pods.
func (a *access) pullSecret(t *testing.T, w trust) {
	t.Helper()
	a.do(t, "ferry", "client", "pull-secret", "--name", "pull", "--namespace", "default", "--endpoint", w.endpoint,
		"--mirror-of", "docker.io", "--token", clientToken, "--password-file", a.password, "--apply")
}

// start starts a pod from the connected registry, and another one from Docker Hub's name. No pod
// has started from their images before.
func (a *access) start(t *testing.T, w trust, credentials string) {
	t.Helper()
	spec := ""
	if credentials == "pull secret" {
		spec = "imagePullSecrets: [{name: pull}]"
	}
	name := fmt.Sprintf("web%d", a.started)
	a.started++
	t.Run(fmt.Sprintf("%s over %s", credentials, w.name), func(t *testing.T) {
		a.node.awaitConfigured(t, w, credentials == "header")
		a.deploy(t, name, w.host()+"/apps/"+name+":v1", spec)
		a.deploy(t, name+"-mirrored", "docker.io/library/"+name+":v1", spec)
	})
	if t.Failed() {
		t.FailNow()
	}
}

// awaitConfigured waits until the node's runtime finds the connected registry, under its own name
// and as a mirror.
func (n *node) awaitConfigured(t *testing.T, w trust, header bool) {
	t.Helper()
	for _, host := range []string{w.host(), "docker.io"} {
		dir := host
		if name, port, found := strings.Cut(host, ":"); found {
			dir = name + "_" + port + "_"
		}
		path := filepath.Join(n.disk, "etc/containerd/certs.d", dir, "hosts.toml")
		await(t, "the DaemonSet configures "+host, func() error {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if !strings.Contains(string(text), w.endpoint[:strings.Index(w.endpoint, serviceIP)+len(serviceIP)]) ||
				strings.Contains(string(text), "authorization") != header {
				return fmt.Errorf("%s has:\n%s", path, text)
			}
			return nil
		})
	}
}

// doctor checks that ferry doctor on the node finds the runtime, and nothing wrong with what the
// DaemonSet wrote.
func (a *access) doctor(t *testing.T) {
	t.Helper()
	out := a.node.run(t, "ferry", "doctor", "--node", "--query", "[?check=='containerd'].[status, finding] | [0]",
		"-o", "tsv")
	if !strings.HasPrefix(out, "ok\n"+a.node.containerd.version) || !strings.Contains(out, "helm uninstall") {
		t.Errorf("ferry doctor --node says:\n%s", out)
	}
}

// awaitSync waits until the connected registry has everything, and knows the client token.
func (a *access) awaitSync(t *testing.T) {
	t.Helper()
	await(t, "the connected registry is in sync", func() error {
		out, err := a.admin.Try(t, "connected-registry", "sync-status", "--name", a.connection.Name)
		if err == nil && !strings.Contains(out, "In sync as of") {
			err = fmt.Errorf("%s", out)
		}
		return err
	})
}

// kill ends the connected registry's process as a crash does, and waits until it runs again.
func (a *access) kill(t *testing.T) {
	t.Helper()
	before := a.restarts(t)
	id := a.do(t, "kubectl", "get", "pods", "-n", namespace, "-l", "app.kubernetes.io/component=registry",
		"-o", "jsonpath={.items[0].status.containerStatuses[0].containerID}")
	a.node.run(t, "ctr", "--namespace", "k8s.io", "tasks", "kill", "--signal", "SIGKILL",
		strings.TrimPrefix(id, "containerd://"))
	a.awaitRestart(t, before)
}

// awaitRestart waits until the connected registry was started again more than before times, and
// is ready.
func (a *access) awaitRestart(t *testing.T, before int) {
	t.Helper()
	await(t, "the connected registry is started again", func() error {
		if n := a.restarts(t); n <= before {
			return fmt.Errorf("it was started again %d times", n)
		}
		return nil
	})
	a.do(t, "kubectl", "rollout", "status", "-n", namespace, "--timeout=120s", "deployment/"+release)
}

// credentialProvider restarts the node, with Ferry as the kubelet's credential provider.
func (a *access) credentialProvider(t *testing.T) {
	t.Helper()
	a.do(t, "kubectl", "delete", "secret", "pull")
	credentials := ""
	for _, match := range []string{plainHTTP.host(), ownCA.host(), "docker.io"} {
		credentials += fmt.Sprintf("- {match: %q, token: %s, password: %s}\n", match, clientToken, a.login.Password)
	}
	writeFile(t, filepath.Join(a.node.disk, "etc/ferry/credentials.yaml"), credentials)
	config := a.node.run(t, "ferry", "credential-provider", "--credentials", "/etc/ferry/credentials.yaml",
		"--print-config")
	writeFile(t, filepath.Join(a.node.disk, "etc/ferry/credential-provider.yaml"), config)
	before := a.restarts(t)
	a.node.stop(t)
	a.node.kubelet = []string{"--image-credential-provider-config=/etc/ferry/credential-provider.yaml",
		"--image-credential-provider-bin-dir=" + filepath.Dir(instance.Binary(t))}
	a.node.start(t)
	a.awaitRestart(t, before)
}

// restarts returns how often the container of the connected registry's pod was started again.
func (a *access) restarts(t *testing.T) int {
	t.Helper()
	out := a.do(t, "kubectl", "get", "pods", "-n", namespace, "-l", "app.kubernetes.io/component=registry",
		"-o", "jsonpath={.items[0].status.containerStatuses[0].restartCount}")
	n, err := strconv.Atoi(out)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// removeCredentialProvider removes what credentialProvider wrote.
func (a *access) removeCredentialProvider(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(a.node.disk, "etc/ferry")); err != nil {
		t.Fatal(err)
	}
}

// syncs checks that the connected registry is still the one that was activated: it gets an image
// that is new at the root.
func (a *access) syncs(t *testing.T) {
	t.Helper()
	img := programImage(t, "v2", pause(t), 100)
	if err := a.root.AsAdmin(t).Push(t.Context(), "apps/web0", img); err != nil {
		t.Fatal(err)
	}
	a.awaitSync(t)
	out := a.admin.Run(t, "connected-registry", "show", "--name", a.connection.Name, "--query",
		"[connectionState, activation.status]", "-o", "tsv")
	if strings.Join(strings.Fields(out), " ") != "Online Active" {
		t.Errorf("the connected registry is %s", out)
	}
}

// awaitNoPods waits until the pods of the chart are gone.
func (a *access) awaitNoPods(t *testing.T) {
	t.Helper()
	a.do(t, "kubectl", "wait", "--for=delete", "--timeout=120s", "pod", "-A", "-l",
		"app.kubernetes.io/instance="+release)
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

// await waits until check returns no error.
func await(t *testing.T, promise string, check func() error) {
	t.Helper()
	deadline := time.After(startTimeout)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: not within %s: %v", promise, startTimeout, err)
		case <-tick.C:
		}
	}
}
