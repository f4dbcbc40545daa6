//go:build kubernetes

package kubernetes

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ferry/test/instance"
)

// A cluster is the control plane: etcd, API server, controllers and scheduler. Its nodes are
// added with [startNode].
type cluster struct {
	dir string // with pki/, kubeconfig/ of each user, and log/ of each program
}

// users are those of the API server, with their groups. Their tokens are their names.
var users = map[string]struct{ name, groups string }{
	"admin":      {"admin", "system:masters"},
	"manager":    {"system:kube-controller-manager", ""},
	"scheduler":  {"system:kube-scheduler", ""},
	"kube-proxy": {"system:kube-proxy", ""},
	"kubelet":    {"system:node:" + nodeName, "system:nodes"},
}

// startTimeout is how long a program may take to be ready. It needs so long only on a busy machine.
const startTimeout = 2 * time.Minute

func startCluster(t *testing.T) *cluster {
	t.Helper()
	needMachine(t)
	c := &cluster{dir: shortDir(t)}
	pki := filepath.Join(c.dir, "pki")
	for _, sub := range []string{"pki", "log", "kubeconfig"} {
		if err := os.Mkdir(filepath.Join(c.dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	writeKeys(t, pki, "localhost", "127.0.0.1", nodeAddress, "10.96.0.1", "kubernetes.default.svc")
	c.writeUsers(t)

	c.run(t, program(t, "etcd"),
		"--data-dir="+filepath.Join(c.dir, "etcd"),
		"--listen-peer-urls=http://127.0.0.1:2380")
	c.run(t, program(t, "kubernetes/kube-apiserver"),
		"--etcd-servers=http://127.0.0.1:2379",
		"--advertise-address="+nodeAddress,
		"--service-cluster-ip-range=10.96.0.0/16",
		"--tls-cert-file="+pki+"/apiserver.crt", "--tls-private-key-file="+pki+"/apiserver.key",
		"--cert-dir="+pki,
		"--token-auth-file="+c.dir+"/tokens.csv",
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-signing-key-file="+pki+"/sa.key", "--service-account-key-file="+pki+"/sa.pub",
		"--kubelet-preferred-address-types=InternalIP",
		"--allow-privileged")
	c.awaitReady(t, "https://127.0.0.1:6443/readyz")
	c.run(t, program(t, "kubernetes/kube-controller-manager"),
		"--kubeconfig="+c.kubeconfig("manager"),
		"--cert-dir="+pki,
		"--leader-elect=false",
		"--use-service-account-credentials",
		"--service-account-private-key-file="+pki+"/sa.key", "--root-ca-file="+pki+"/ca.crt")
	c.run(t, program(t, "kubernetes/kube-scheduler"),
		"--kubeconfig="+c.kubeconfig("scheduler"),
		"--cert-dir="+pki,
		"--leader-elect=false")
	c.do(t, "kubectl", "label", "namespace", "default", "pod-security.kubernetes.io/enforce=restricted")
	return c
}

// writeUsers writes the API server's list of users, and a kubeconfig for each of them.
func (c *cluster) writeUsers(t *testing.T) {
	t.Helper()
	var tokens strings.Builder
	for token, user := range users {
		fmt.Fprintf(&tokens, "%s,%s,%s,%q\n", token, user.name, token, user.groups)
		config := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://%s:6443", certificate-authority: %q}}]
users: [{name: u, user: {token: %q}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
current-context: c
`, nodeAddress, c.dir+"/pki/ca.crt", token)
		writeFile(t, c.kubeconfig(token), config)
	}
	writeFile(t, c.dir+"/tokens.csv", tokens.String())
}

// kubeconfig returns the path of a user's configuration.
func (c *cluster) kubeconfig(user string) string { return filepath.Join(c.dir, "kubeconfig", user) }

// run starts a program of the control plane, which ends with the test.
func (c *cluster) run(t *testing.T, path string, args ...string) {
	t.Helper()
	cmd := exec.Command(path, args...)
	c.logTo(t, cmd, filepath.Base(path))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

// logTo sends the output of cmd to a file, whose end is shown if the test fails.
func (c *cluster) logTo(t *testing.T, cmd *exec.Cmd, name string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(c.dir, "log", name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = f, f
	c.showLog(t, name)
	t.Cleanup(func() { f.Close() })
}

// showLog shows the end of the log of a program if the test fails.
func (c *cluster) showLog(t *testing.T, name string) {
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := exec.Command("tail", "-n", "40", filepath.Join(c.dir, "log", name)).Output()
			t.Logf("the end of the log of %s:\n%s", name, out)
		}
	})
}

// awaitReady waits until a server that is starting says that it is ready.
func (c *cluster) awaitReady(t *testing.T, url string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer admin")
		resp, err := client.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s is not ready: %v", url, err)
		case <-tick.C:
		}
	}
}

// env returns the environment of an administrator's shell: kubectl, helm and ferry are on its PATH.
func (c *cluster) env(t *testing.T) []string {
	t.Helper()
	path := []string{filepath.Dir(program(t, "kubernetes/kubectl")), filepath.Dir(program(t, "helm")),
		filepath.Dir(instance.Binary(t)), os.Getenv("PATH")}
	return append(os.Environ(), "PATH="+strings.Join(path, ":"), "KUBECONFIG="+c.kubeconfig("admin"),
		"HELM_CACHE_HOME="+c.dir+"/helm", "HELM_CONFIG_HOME="+c.dir+"/helm", "HELM_DATA_HOME="+c.dir+"/helm")
}

// command returns a command of an administrator.
func (c *cluster) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path := args[0]
	switch path {
	case "kubectl":
		path = program(t, "kubernetes/kubectl")
	case "helm":
		path = program(t, "helm")
	case "ferry":
		path = instance.Binary(t)
	}
	cmd := exec.Command(path, args[1:]...)
	cmd.Env = c.env(t)
	return cmd
}

// do runs a command of an administrator, fails the test if the command fails, and returns its output.
func (c *cluster) do(t *testing.T, args ...string) string {
	t.Helper()
	out, err := instance.Output(c.command(t, args...))
	if err != nil {
		c.describe(t)
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// apply creates or changes objects.
func (c *cluster) apply(t *testing.T, manifests string) {
	t.Helper()
	cmd := c.command(t, "kubectl", "apply", "-f", "-")
	cmd.Stdin = strings.NewReader(manifests)
	if _, err := instance.Output(cmd); err != nil {
		t.Fatal(err)
	}
}

// describe logs the state of the cluster.
func (c *cluster) describe(t *testing.T) {
	t.Helper()
	for _, args := range [][]string{
		{"kubectl", "get", "pods,deployments,daemonsets,pvc,services", "-A", "-o", "wide"},
		{"kubectl", "get", "events", "-A", "--sort-by=.lastTimestamp"},
		ferryLogs("connected-registry"),
		ferryLogs("connected-registry-nodes"),
	} {
		out, err := instance.Output(c.command(t, args...))
		t.Logf("%s (%v):\n%s", strings.Join(args, " "), err, out)
	}
}

// ferryLogs is the command that shows the logs of the pods of Ferry in a namespace.
func ferryLogs(namespace string) []string {
	return []string{"kubectl", "logs", "-n", namespace, "-l", "app.kubernetes.io/part-of=ferry", "--prefix",
		"--tail=30"}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// shortDir is t.TempDir for programs that do not support long paths.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "k8s-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
