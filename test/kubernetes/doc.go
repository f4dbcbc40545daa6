// Package kubernetes tests Ferry on a real Kubernetes node: kubelet, containerd and the control
// plane run as on a machine of their own, and everything is installed as a person would
// install it, with helm and kubectl. Its tests have the build tag kubernetes and need root;
// `make kubernetes` runs them. Begin with [TestMain], which gives them a machine.
package kubernetes
