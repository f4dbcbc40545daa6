//go:build kubernetes

package kubernetes

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"ferry/test/daemon"
)

// Addresses on the machine of the tests. Pods can reach none of them by way of loopback.
const (
	nodeAddress = "192.0.2.10"   // of the node, and of the API server
	rootAddress = "198.51.100.1" // of the root registry and of the link to it
)

// insideMachine is set in the process that runs the tests.
const insideMachine = "FERRY_TEST_MACHINE"

// TestMain runs the tests in namespaces of their own for processes, mounts and the network. So
// ports and paths are free, and the kernel ends and unmounts everything when the process ends,
// however it ends.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		os.Exit(m.Run()) // each test says that it needs root
	}
	if os.Getenv(insideMachine) == "" {
		os.Exit(enterMachine())
	}
	if err := prepareMachine(); err != nil {
		fmt.Fprintln(os.Stderr, "prepare the machine of the tests:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// enterMachine runs this program again in new namespaces, and returns its exit code.
func enterMachine() int {
	// The child ends with the thread that made it.
	runtime.LockOSThread()
	removeCgroups() // of a run that was killed
	defer removeCgroups()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideMachine+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode()
	default:
		fmt.Fprintln(os.Stderr, "run the tests in namespaces:", err)
		return 1
	}
}

// prepareMachine gives the namespaces a view of their own processes, and a network.
func prepareMachine() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		return err
	}
	// Both ends of the node's cable are here, so packets to addresses that nobody has are lost.
	for _, args := range []string{
		"link set lo up",
		"addr add " + rootAddress + "/32 dev lo",
		"link add eth0 type veth peer name uplink",
		"addr add " + nodeAddress + "/24 dev eth0",
		"link set uplink up",
		"link set eth0 up",
		"route add default via 192.0.2.1 dev eth0",
	} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", args, err, out)
		}
	}
	return nil
}

// removeCgroups removes the control groups of containers in which no process runs. A kubelet waits
// three seconds for each of them when it starts; a machine that was switched off has none.
func removeCgroups() {
	for _, pattern := range []string{"/sys/fs/cgroup/k8s.io/*", "/sys/fs/cgroup/*/k8s.io/*"} {
		paths, _ := filepath.Glob(pattern)
		for _, path := range paths {
			os.Remove(path) // fails if a process runs there
		}
	}
}

// needMachine skips a test without root, or fails it in CI.
func needMachine(t *testing.T) {
	t.Helper()
	if os.Getenv(insideMachine) != "" {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("the tests on a Kubernetes node need root")
	}
	t.Skip("the tests on a Kubernetes node need root")
}

// program returns the path of a program; see [daemon.Program].
func program(t *testing.T, name string) string {
	t.Helper()
	return daemon.Program(t, name, "make kubernetes-tools packages")
}
