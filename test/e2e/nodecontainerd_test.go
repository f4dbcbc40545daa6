//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ferry/internal/faultnet"
	"ferry/test/daemon"
	"ferry/test/instance"
)

// A criServer is a containerd as a kubelet uses it.
type criServer struct {
	version string
	program string // in .tools, or Debian's
	format  int    // of the configuration
	plugin  string
}

// containerds are the versions that must work: the one of Debian, and one whose pulls do not
// split config_path.
var containerds = []criServer{
	{version: "1.6.20", program: "containerd", format: 2, plugin: "io.containerd.grpc.v1.cri"},
	{version: "2.4.2", program: "containerd-2.4/containerd", format: 3, plugin: "io.containerd.cri.v1.images"},
}

const twoRoots = "/etc/containerd/certs.d:/etc/docker/certs.d"

// start starts containerd on a machine. It stops with the test.
func (c criServer) start(t *testing.T, m *machine) {
	t.Helper()
	path := program(t, c.program)
	cmd := m.command(path, "--config", "/etc/containerd/config.toml")
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(path)+":"+os.Getenv("PATH"))
	daemon.Start(t, cmd, func(line string) string {
		if strings.Contains(line, "containerd successfully booted") {
			return line
		}
		return ""
	})
}

// config returns a configuration whose files are in the machine's directory.
func (c criServer) config(m *machine, configPath string) string {
	text := fmt.Sprintf(`version = %d
root = "%[2]s/run/root"
state = "%[2]s/run/state"
temp = "%[2]s/run/temp"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
	"io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt"]
[grpc]
  address = "%[2]s/run/sock"
[ttrpc]
  address = "%[2]s/run/sock.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  disable_tcp_service = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
`, c.format, m.root)
	if configPath != "" {
		text += fmt.Sprintf("[plugins.%q.registry]\n  config_path = %q\n", c.plugin, configPath)
	}
	return text
}

// pull pulls an image through the interface that a kubelet uses.
func (m *machine) pull(t *testing.T, ref string) error {
	t.Helper()
	socket := "unix://" + m.root + "/run/sock"
	_, err := instance.Output(exec.Command(program(t, "crictl"), "--image-endpoint", socket,
		"--runtime-endpoint", socket, "--timeout", "60s", "pull", ref))
	return err
}

func TestContainerdPullsWithoutARestart(t *testing.T) {
	program(t, "crictl")
	edges := startEdges(t)
	for _, c := range containerds {
		for name, configPath := range map[string]string{
			"one root": "/etc/containerd/certs.d", "two roots": twoRoots, "default": "",
		} {
			t.Run(c.version+"/"+name, func(t *testing.T) {
				m := newMachine(t)
				m.write(t, "etc/containerd/config.toml", c.config(m, configPath))
				restart := configPath == "" && c.version == "1.6.20" // it has no default
				before := m.files(t)
				if !restart {
					c.start(t, m)
				}
				for i, s := range edges {
					args := s.configure("containerd", append(s.withToken(), "--mirror-of", "docker.io",
						"--runtime-version", "containerd://"+c.version)...)
					if restart {
						args = append(args, "--edit-config")
					}
					out := m.ferry(t, args...)
					if needed := strings.Contains(out, "systemctl restart containerd"); needed != restart {
						t.Errorf("%s: a restart is needed: %t\n%s", s.kind, needed, out)
					}
					if strings.Contains(out, s.token.Password) || strings.Contains(out, "Basic ") {
						t.Errorf("%s: the output has the password:\n%s", s.kind, out)
					}
					if restart && i == 0 {
						c.start(t, m)
					}
					for _, ref := range []string{s.host + "/apps/private:v1", "docker.io/library/mirrored:v1"} {
						if err := m.pull(t, ref); err != nil {
							t.Errorf("%s: %v", s.kind, err)
						}
					}
					m.restore(t, before)
					if err := m.pull(t, s.host+"/apps/private:v1"); err == nil {
						t.Errorf("%s: a pull after the restore succeeded", s.kind)
					}
				}
			})
		}
	}
}

// On the machine itself, containerd is asked for its version and configuration.
func TestContainerdIsAskedForItsConfiguration(t *testing.T) {
	c := containerds[1]
	m := newMachine(t)
	m.write(t, "etc/containerd/config.toml", c.config(m, "/etc/containerd/elsewhere"))
	cmd := m.command(instance.Binary(t), "client", "configure", "containerd", "--endpoint", "http://edge.test:5000",
		"--state-dir", filepath.Join(m.root, "state"))
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(program(t, c.program))+":"+os.Getenv("PATH"))
	out, err := instance.Output(cmd)
	if err != nil {
		t.Fatal(err)
	}
	if want := "containerd 2.4.2: config_path with one directory"; !strings.Contains(out, want) {
		t.Errorf("the output does not have %q:\n%s", want, out)
	}
	if _, err := os.Stat(filepath.Join(m.root, "etc/containerd/elsewhere/edge.test_5000_/hosts.toml")); err != nil {
		t.Error(err)
	}
}

// A site whose registry is down costs a pull two seconds, not the thirty of containerd.
func TestSilentMirrorDelaysAPullBySeconds(t *testing.T) {
	program(t, "crictl")
	c := containerds[1]
	m := newMachine(t)
	m.write(t, "etc/containerd/config.toml", c.config(m, ""))
	c.start(t, m)
	silent, closed, err := faultnet.Silent()
	if err != nil {
		t.Fatal(err)
	}
	defer closed()
	m.ferry(t, "client", "configure", "containerd", "--endpoint", fmt.Sprintf("http://%s:%d", edgeName, silent.Port()),
		"--mirror-of", "docker.io", "--runtime-version", c.version)
	begin := time.Now()
	err = m.pull(t, "docker.io/library/mirrored:v1") // Docker Hub refuses the connection
	took := time.Since(begin)
	if err == nil || took < 2*time.Second || took > 15*time.Second {
		t.Errorf("the pull took %s and ended with %v", took, err)
	}
	t.Logf("the pull took %s", took)
}
