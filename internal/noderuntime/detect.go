package noderuntime

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// A Runtime is a container runtime that was found on a node, with the row of [Table] that
// applies to it.
type Runtime struct {
	Row
	Version string `json:"version,omitempty"` // "" if it is not known
	// Problems are things that an operator should know, such as a configuration that
	// cannot be read.
	Problems []string `json:"problems,omitempty"`

	version  version
	roots    []string // containerd: the directories of config_path
	config   string   // the runtime's own configuration file
	embedded bool     // K3s: its embedded registry is on
}

// Detect returns the runtimes of the node, in the order of [Kinds]. registries are the names
// that will be configured, which decide between some rows; there may be none.
func (n *Node) Detect(ctx context.Context, registries ...string) []Runtime {
	var all []Runtime
	for _, k := range Kinds() {
		if n.has(ctx, k) {
			all = append(all, n.inspect(ctx, k, registries))
		}
	}
	return all
}

// Automatic returns the runtimes that are configured without being named: every one that can
// serve a kubelet, and on a machine that is not mounted Docker and Podman, too. A containerd
// whose CRI plugin is disabled is only configured if it is the only runtime.
func (n *Node) Automatic(found []Runtime) []Runtime {
	chosen := slices.DeleteFunc(slices.Clone(found), func(r Runtime) bool {
		return n.mounted() && !r.Runtime.Kubernetes() || r.found == criDisabled
	})
	if len(chosen) == 0 && !n.mounted() {
		return found
	}
	if slices.ContainsFunc(chosen, func(r Runtime) bool { return r.Runtime == OpenShift }) {
		// Its CRI-O is configured with the objects.
		chosen = slices.DeleteFunc(chosen, func(r Runtime) bool { return r.Runtime != OpenShift })
	}
	return chosen
}

// has reports whether the node has traces of a runtime.
func (n *Node) has(ctx context.Context, k Kind) bool {
	program := ""
	switch k {
	case Containerd:
		if n.exists("/etc/containerd", "/run/containerd/containerd.sock", "/usr/bin/containerd",
			"/usr/local/bin/containerd") {
			return true
		}
		program = "containerd"
	case K3s, RKE2:
		return n.exists("/etc/rancher/"+string(k), "/var/lib/rancher/"+string(k))
	case MicroK8s:
		return n.exists("/var/snap/microk8s/current")
	case CRIO:
		return n.exists("/etc/crio", "/run/crio/crio.sock", "/var/run/crio/crio.sock")
	case Docker:
		if n.exists("/etc/docker/daemon.json", "/run/docker.sock", "/var/run/docker.sock", "/usr/bin/dockerd",
			"/usr/sbin/dockerd", "/usr/local/bin/dockerd") {
			return true
		}
		program = "dockerd"
	case Podman:
		if n.exists("/usr/bin/podman", "/usr/local/bin/podman") {
			return true
		}
		program = "podman"
	case OpenShift:
		return n.exists("/etc/machine-config-daemon")
	case Talos:
		release, _ := n.read("/etc/os-release")
		return strings.Contains("\n"+string(release), "\nID=talos")
	}
	_, err := n.run(ctx, program, "--version")
	return err == nil
}

// inspect finds the version and the configuration of one runtime.
func (n *Node) inspect(ctx context.Context, k Kind, registries []string) Runtime {
	switch k {
	case Containerd:
		return n.inspectContainerd(ctx)
	case K3s, RKE2:
		return n.inspectRancher(ctx, k, registries)
	case MicroK8s:
		return n.inspectMicroK8s()
	case CRIO:
		return n.inspectCRIO(ctx)
	case Docker:
		r := newRuntime(k, n.versionOf(ctx, "dockerd"), anything)
		r.config = n.configFile("/etc/docker/daemon.json")
		return r
	case Podman:
		return newRuntime(k, n.versionOf(ctx, "podman"), anything)
	}
	return newRuntime(k, version{}, anything)
}

func newRuntime(k Kind, v version, f found) Runtime {
	return Runtime{Row: rowOf(k, v, f), Version: v.String(), version: v}
}

func (n *Node) configFile(usual string) string {
	if n.ConfigFile != "" {
		return n.ConfigFile
	}
	return usual
}

func (r *Runtime) problem(format string, args ...any) {
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}
