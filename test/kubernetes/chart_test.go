//go:build kubernetes

package kubernetes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ferry/test/instance"
)

// chartFlags are the flags of helm for the chart connected-registry.
var chartFlags = []string{"acr", "../../charts/connected-registry", "-n", "connected-registry", "--set",
	"connectionString=ConnectedRegistryName=ship1;SyncTokenName=ship1;SyncTokenPassword=ferry_x;" +
		"ParentGatewayEndpoint=registry.example;ParentEndpointProtocol=https"}

// nodesElsewhere are the flags that a "restricted" namespace needs.
var nodesElsewhere = []string{"--set", "trustDistribution.namespace=edge-nodes",
	"--set", "trustDistribution.createNamespace=true", "--set", "service.clusterIP=10.96.7.7"}

// The objects of the chart live in the API; no pod runs here.
func TestChartsObjectsInTheAPI(t *testing.T) {
	c := startCluster(t)
	c.apply(t, `
apiVersion: v1
kind: Namespace
metadata: {name: connected-registry, labels: {pod-security.kubernetes.io/enforce: restricted}}
`)
	helm := func(verb string, flags ...string) []string {
		return append(append([]string{"helm", verb}, chartFlags...), flags...)
	}
	_, err := instance.Output(c.command(t, helm("install")...))
	if err == nil || !strings.Contains(err.Error(), `enforces the pod security "restricted"`) ||
		!strings.Contains(err.Error(), "trustDistribution.createNamespace=true") {
		t.Fatalf("the DaemonSet in a restricted namespace: %v", err)
	}
	c.do(t, helm("install", nodesElsewhere...)...)

	// The registry's account may write the ConfigMap of its CA, and no other.
	for name, want := range map[string]bool{"acr-ca": true, "other": false} {
		cmd := c.applyAs(t, fmt.Sprintf(`
apiVersion: v1
kind: ConfigMap
metadata: {name: %s, namespace: edge-nodes}
data: {ca.crt: PEM}
`, name))
		if _, err := instance.Output(cmd); (err == nil) != want {
			t.Errorf("write the ConfigMap %s: %v", name, err)
		}
	}
	// It makes the pull secret with its login itself, beside each pod of its image, and no other Secret.
	for _, namespace := range []string{"connected-registry", "edge-nodes"} {
		for name, want := range map[string]bool{"acr-pull-current": true, "acr-pull": false, "other": false} {
			_, err := instance.Output(c.applyAs(t, fmt.Sprintf(`
apiVersion: v1
kind: Secret
metadata: {name: %s, namespace: %s}
type: kubernetes.io/dockerconfigjson
data: {.dockerconfigjson: e30=}
`, name, namespace)))
			if (err == nil) != want {
				t.Errorf("write the Secret %s/%s: %v", namespace, name, err)
			}
		}
	}
	c.do(t, helm("upgrade", append(nodesElsewhere, "--set", "sync.chunkSizeInMb=2")...)...)
	if got := c.do(t, "kubectl", "get", "configmap", "acr-ca", "-n", "edge-nodes", "-o", "jsonpath={.data}"); got !=
		`{"ca.crt":"PEM"}` {
		t.Errorf("an upgrade left the data %s", got)
	}

	claim := []string{"kubectl", "get", "pvc", "acr", "-n", "connected-registry", "-o", "jsonpath={.metadata.uid}"}
	uid := c.do(t, claim...)
	c.do(t, "helm", "uninstall", "acr", "-n", "connected-registry")
	c.do(t, helm("install", "--set", "httpEnabled=true")...)
	c.do(t, "kubectl", "get", "secret", "acr-pull-current", "-n", "connected-registry") // for the first pull
	if got := c.do(t, claim...); got != uid {
		t.Errorf("the claim %s was replaced by %s", uid, got)
	}
}

// applyAs returns a command that applies an object as the registry's account, like the registry does.
func (c *cluster) applyAs(t *testing.T, object string) *exec.Cmd {
	t.Helper()
	token := c.do(t, "kubectl", "create", "token", "acr", "-n", "connected-registry")
	cmd := c.command(t, "kubectl", "--token="+token, "apply", "--server-side", "--force-conflicts",
		"--field-manager=ferry", "--validate=false", "-f", "-")
	cmd.Stdin = strings.NewReader(object)
	// The administrator's token in the file would be used otherwise.
	cmd.Env = append(cmd.Env, "KUBECONFIG="+c.withoutUser(t))
	return cmd
}

// withoutUser returns a kubeconfig file that names the API and no user.
func (c *cluster) withoutUser(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(c.kubeconfig("admin"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	writeFile(t, path, strings.Replace(string(text), `token: "admin"`, "", 1))
	return path
}

func TestChartFindsTheRuntimeOfTheNodes(t *testing.T) {
	c := startCluster(t)
	c.apply(t, "{apiVersion: v1, kind: Node, metadata: {name: a}}")
	for _, test := range []struct{ system, kubelet, runtime, want string }{
		{"Debian GNU/Linux 12", "v1.37.2", "containerd://2.4.2", "containerd"},
		{"Debian GNU/Linux 12", "v1.33.1+k3s1", "containerd://2.0.5-k3s1", "k3s"},
		{"SLES 15", "v1.33.1+rke2r1", "containerd://2.0.5-k3s1", "rke2"},
		{"Fedora Linux 42", "v1.33.1", "cri-o://1.33.0", "crio"},
		{"Red Hat Enterprise Linux CoreOS 418", "v1.31.6", "cri-o://1.31.6", "ferry client configure openshift"},
		{"Talos (v1.11.0)", "v1.33.1", "containerd://2.1.4", "ferry client configure talos"},
	} {
		c.do(t, "kubectl", "patch", "node", "a", "--subresource=status", "--type=merge", "-p", fmt.Sprintf(
			`{"status":{"nodeInfo":{"machineID":"","systemUUID":"","bootID":"","kernelVersion":"","osImage":%q,`+
				`"containerRuntimeVersion":%q,"kubeletVersion":%q,"kubeProxyVersion":"","operatingSystem":"linux",`+
				`"architecture":"amd64"}}}`, test.system, test.runtime, test.kubelet))
		args := append([]string{"helm", "template", "--dry-run=server"}, chartFlags...)
		out, err := instance.Output(c.command(t, args...))
		if got := fmt.Sprint(out, err); !strings.Contains(got, "- configure\n            - "+test.want+"\n") &&
			!strings.Contains(got, "`"+test.want+"`") {
			t.Errorf("%s: want %s in %v\n%s", test.system, test.want, err, out)
		}
	}
}

func TestPullSecretIsAppliedToACluster(t *testing.T) {
	c := startCluster(t)
	for _, password := range []string{"ferry_1", "ferry_2"} { // the second one replaces the first
		cmd := c.command(t, "ferry", "client", "pull-secret", "--name", "regcred", "--namespace", "default",
			"--endpoint", "http://10.1.1.1", "--token", "line1", "--password-stdin", "--apply")
		cmd.Stdin = strings.NewReader(password + "\n")
		if _, err := instance.Output(cmd); err != nil {
			t.Fatal(err)
		}
		got := c.do(t, "kubectl", "get", "secret", "regcred", "-o",
			`go-template={{.type}} {{index .data ".dockerconfigjson" | base64decode}}`)
		if !strings.HasPrefix(got, "kubernetes.io/dockerconfigjson ") || !strings.Contains(got, password) {
			t.Errorf("the secret is %s", got)
		}
	}
}
