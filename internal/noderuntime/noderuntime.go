// Package noderuntime configures the container runtimes of a node, so that they trust a
// registry, pull from it as a mirror, and log in to it, if possible without a restart.
//
// Begin with [Node.Detect], which finds the runtimes and the row of [Table] that applies to
// each; then [Node.Configure], which writes the files of that row, and [Node.Restore], which
// brings back the files that were there before. [Watch] does both for as long as a
// DaemonSet runs.
package noderuntime

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// A Kind is the name of a container runtime, or of a distribution with rules of its own.
type Kind string

// The runtimes that Ferry knows.
const (
	Containerd Kind = "containerd"
	K3s        Kind = "k3s"
	RKE2       Kind = "rke2"
	MicroK8s   Kind = "microk8s"
	CRIO       Kind = "crio"
	Docker     Kind = "docker"
	Podman     Kind = "podman"
	OpenShift  Kind = "openshift"
	Talos      Kind = "talos"
)

// Kinds returns every runtime, in the order of [Table].
func Kinds() []Kind {
	return []Kind{Containerd, K3s, RKE2, MicroK8s, CRIO, Podman, Docker, OpenShift, Talos}
}

// Prints reports whether the configuration of k is objects for an operator to apply. The
// files of such a node belong to the distribution, so nothing is written.
func (k Kind) Prints() bool { return k == OpenShift || k == Talos }

// Kubernetes reports whether a kubelet can pull with k.
func (k Kind) Kubernetes() bool { return k != Docker && k != Podman }

// A Node is a machine, as far as its container runtimes are concerned.
type Node struct {
	// Root is where the machine's file system is: "/" or "", or a directory that it is
	// mounted on. Programs of a mounted machine are not run.
	Root string
	// State is the directory on the machine that remembers the files as they were. The
	// default is [DefaultState].
	State string
	// Version is the runtime's version, if the caller knows it, such as "containerd://2.4.2"
	// from the status of a Kubernetes node.
	Version string
	// ConfigFile is the runtime's configuration file, if it is not at the usual place. It
	// may be set if only one runtime is configured.
	ConfigFile string
	// Execute runs a program of the machine and returns its output. nil uses [os/exec],
	// unless the machine is mounted.
	Execute func(ctx context.Context, name string, args ...string) ([]byte, error)

	fault func(operation string) error // for tests: is called before each change of the disk
}

// DefaultState is the directory that remembers the files as they were.
const DefaultState = "/var/lib/ferry-client"

// A version is a release number: major, minor and patch. The zero version is not known.
type version [3]int

// parseVersion finds a version in a text such as "containerd://1.7.27-k3s1",
// "v2.4.2" or "containerd github.com/containerd/containerd 1.6.20~ds1". It returns
// the zero version if there is none.
func parseVersion(text string) version {
	if _, after, ok := strings.Cut(text, "://"); ok {
		text = after
	}
	for word := range strings.FieldsSeq(text) {
		var v version
		if n, _ := fmt.Sscanf(strings.TrimPrefix(word, "v"), "%d.%d.%d", &v[0], &v[1], &v[2]); n >= 2 {
			return v
		}
	}
	return version{}
}

func (v version) known() bool { return v != version{} }

func (v version) less(o version) bool { return slices.Compare(v[:], o[:]) < 0 }

func (v version) String() string {
	if !v.known() {
		return ""
	}
	return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2])
}
