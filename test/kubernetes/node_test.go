//go:build kubernetes

package kubernetes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"ferry/test/instance"
)

const nodeName = "node"

// A containerd is a version of it.
type containerd struct {
	version string
	dir     func(t *testing.T) string // of containerd, its shim, and ctr
}

// containerds are the versions that the tests run on: Debian's, and one that has changed
// everything about registries since.
var containerds = []containerd{
	{"1.6", func(t *testing.T) string { return "/usr/bin" }},
	{"2.4", func(t *testing.T) string { return filepath.Dir(program(t, "containerd-2.4/containerd")) }},
}

// A node is a machine of the cluster, with containerd, kubelet and kube-proxy. Its /etc, /var and
// /run are its own, and the rest of its files is the machine's.
type node struct {
	cluster    *cluster
	containerd containerd
	disk       string   // with etc/ and var/
	kubelet    []string // more arguments for the kubelet

	init *exec.Cmd // nil if the node does not run
}

// startNode adds a node to the cluster, and returns once pods can run there.
func startNode(t *testing.T, c *cluster, runtime containerd) *node {
	t.Helper()
	n := &node{cluster: c, containerd: runtime, disk: filepath.Join(c.dir, "disk")}
	n.writeDisk(t)
	n.start(t)
	t.Cleanup(n.kill)
	n.importImage(t, programImage(t, "3.6", pause(t), 1).Dir, "registry.k8s.io/pause:3.6")
	return n
}

// writeDisk writes the files that the node has before anything of ours is installed.
func (n *node) writeDisk(t *testing.T) {
	t.Helper()
	for from, to := range map[string]string{
		"containerd-" + n.containerd.version + ".toml": "etc/containerd/config.toml",
		"ptp.conflist":    "etc/cni/net.d/ptp.conflist",
		"kubelet.yaml":    "etc/kubernetes/kubelet.yaml",
		"kube-proxy.yaml": "etc/kubernetes/kube-proxy.yaml",
	} {
		text, err := os.ReadFile(filepath.Join("testdata", from))
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(n.disk, to), strings.ReplaceAll(string(text), "@DIR@", n.cluster.dir))
	}
	for name, text := range map[string]string{
		"passwd":      "root:x:0:0:root:/root:/bin/bash\n",
		"group":       "root:x:0:\n",
		"hosts":       "127.0.0.1 localhost\n",
		"resolv.conf": "# no name server\n",
	} {
		writeFile(t, filepath.Join(n.disk, "etc", name), text)
	}
	for _, dir := range []string{"lib", "log", "tmp"} {
		if err := os.MkdirAll(filepath.Join(n.disk, "var", dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(n.disk, "var/lib/local-path"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(n.disk, "var/lib/local-path"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/run", filepath.Join(n.disk, "var/run")); err != nil {
		t.Fatal(err)
	}
	// Debian's iptables is found by way of /etc/alternatives.
	for _, name := range []string{"alternatives", "ld.so.cache", "protocols", "services", "ethertypes"} {
		if _, err := os.Stat("/etc/" + name); err != nil {
			continue
		}
		if _, err := instance.Output(exec.Command("cp", "-a", "/etc/"+name, filepath.Join(n.disk, "etc"))); err != nil {
			t.Fatal(err)
		}
	}
}

// start turns the node on, and returns once it is ready.
func (n *node) start(t *testing.T) {
	t.Helper()
	logs := filepath.Join(n.cluster.dir, "log")
	n.init = exec.Command("testdata/node.sh", n.kubelet...)
	n.init.Env = append(os.Environ(), "NODE="+n.disk, "LOGS="+logs, "NAME="+nodeName, "ADDRESS="+nodeAddress,
		"KUBECONFIG="+n.cluster.kubeconfig("kubelet"), "PATH="+n.path(t))
	n.init.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	for _, name := range []string{"containerd", "kube-proxy", "kubelet"} {
		n.cluster.showLog(t, name)
	}
	n.cluster.logTo(t, n.init, "node")
	if err := n.init.Start(); err != nil {
		t.Fatal(err)
	}
	n.awaitReady(t)
}

// stop turns the node off as a power cut does, and the cluster notices.
func (n *node) stop(t *testing.T) {
	t.Helper()
	n.kill()
	// The controllers notice it after a while.
	n.cluster.do(t, "kubectl", "patch", "node", nodeName, "--subresource=status", "-p",
		`{"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}`)
}

// kill ends everything on the node.
func (n *node) kill() {
	if n.init == nil {
		return
	}
	n.init.Process.Kill()
	n.init.Wait()
	n.init = nil
	removeCgroups()
}

// awaitReady waits until the kubelet has said that the node is ready.
func (n *node) awaitReady(t *testing.T) {
	t.Helper()
	n.cluster.do(t, "kubectl", "wait", "--for=create", "--timeout=120s", "node/"+nodeName)
	n.cluster.do(t, "kubectl", "wait", "--for=condition=Ready", "--timeout=120s", "node/"+nodeName)
}

// run runs a command on the node, and returns its output.
func (n *node) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := instance.Output(n.command(args...))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// command returns a command on the node.
func (n *node) command(args ...string) *exec.Cmd {
	pid := n.init.Process.Pid
	enter := []string{"--target", strconv.Itoa(pid), "--mount", "--pid", "--"}
	cmd := exec.Command("nsenter", append(enter, args...)...)
	cmd.Env = n.init.Env
	return cmd
}

// shell returns variables for scripts: NODE_PID and NODE_PATH.
func (n *node) shell(t *testing.T) []string {
	t.Helper()
	return []string{fmt.Sprintf("NODE_PID=%d", n.init.Process.Pid), "NODE_PATH=" + n.path(t)}
}

// path returns the node's PATH.
func (n *node) path(t *testing.T) string {
	t.Helper()
	return strings.Join([]string{n.containerd.dir(t), filepath.Dir(program(t, "kubernetes/kubelet")),
		"/usr/sbin:/usr/bin:/sbin:/bin", filepath.Dir(instance.Binary(t))}, ":")
}

// importImage gives containerd an image without a registry, by the name ref.
func (n *node) importImage(t *testing.T, layout, ref string) {
	t.Helper()
	name := ref[:strings.LastIndex(ref, ":")]
	archive := filepath.Join(n.cluster.dir, "image.tar")
	if _, err := instance.Output(exec.Command("tar", "-C", layout, "-cf", archive, ".")); err != nil {
		t.Fatal(err)
	}
	n.run(t, "ctr", "--namespace", "k8s.io", "images", "import", "--base-name", name, archive)
	os.Remove(archive)
}
