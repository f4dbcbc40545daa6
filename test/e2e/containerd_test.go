//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/test/daemon"
	"ferry/test/image"
	"ferry/test/instance"
)

// containerd is ctr with a containerd of its own.
type containerd struct {
	command
	instance.Login
	dir string
}

// containerdConfig keeps all files of containerd in one directory. Its namespaces do not
// share content, so a pull into one of them fetches everything.
const containerdConfig = `version = 2
root = "%[1]s/root"
state = "%[1]s/state"
temp = "%[1]s/temp"
disabled_plugins = ["io.containerd.grpc.v1.cri",
	"io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
	"io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt"]
[grpc]
  address = "%[1]s/sock"
[ttrpc]
  address = "%[1]s/sock.ttrpc"
[plugins."io.containerd.metadata.v1.bolt"]
  content_sharing_policy = "isolated"
`

func newContainerd(t *testing.T, l instance.Login) client {
	ctr, server := program(t, "ctr"), program(t, "containerd")
	if os.Geteuid() != 0 {
		t.Skip("containerd needs root")
	}
	dir := shortDir(t) // it has a socket, whose path must be short
	config := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(config, fmt.Appendf(nil, containerdConfig, dir), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(server, "--config", config)
	daemon.Start(t, cmd, func(line string) string {
		if strings.Contains(line, "containerd successfully booted") {
			return line
		}
		return ""
	})
	return &containerd{command{path: ctr, args: []string{"--address", filepath.Join(dir, "sock")}}, l, dir}
}

// login does nothing: ctr takes the password with each command.
func (c *containerd) login() error { return nil }

func (c *containerd) push(m *image.Image, ref string) (digest.Digest, error) {
	archive := filepath.Join(c.dir, "image.tar")
	if _, err := instance.Output(exec.Command("tar", "-C", m.Dir, "-cf", archive, ".")); err != nil {
		return "", err
	}
	if _, err := c.run("--namespace", "push", "images", "import", "--no-unpack", "--all-platforms",
		"--base-name", strings.TrimSuffix(ref, ":"+m.Tag), archive); err != nil {
		return "", err
	}
	_, err := c.run("--namespace", "push", "images", "push", "--plain-http", "--user", c.User+":"+c.Password, ref)
	return m.Digest, err
}

func (c *containerd) pull(ref string) (digest.Digest, error) {
	return c.pullWith("pull", ref, "--plain-http", "--user", c.User+":"+c.Password)
}

// pullWith pulls a reference into a namespace.
func (c *containerd) pullWith(namespace, ref string, flags ...string) (digest.Digest, error) {
	flags = append([]string{"--namespace", namespace, "images", "pull", "--snapshotter", "native"}, flags...)
	if _, err := c.run(append(flags, ref)...); err != nil {
		return "", err
	}
	out, err := c.run("--namespace", namespace, "images", "list", "name=="+ref)
	if err != nil {
		return "", err
	}
	// A heading, then: REF TYPE DIGEST ...
	for _, field := range strings.Fields(out) {
		if strings.HasPrefix(field, "sha256:") {
			return digest.Digest(field), nil
		}
	}
	return "", fmt.Errorf("ctr lists no digest:\n%s", out)
}
