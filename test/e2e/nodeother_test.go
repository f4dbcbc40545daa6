//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ferry/test/daemon"
	"ferry/test/instance"
)

// containersTool is Podman or Skopeo on a machine.
type containersTool struct {
	m    *machine
	path string
	args []string
}

// run runs a command with the login in auth.json.
func (c containersTool) run(stdin string, args ...string) error {
	cmd := c.m.command(c.path, append(c.args[:len(c.args):len(c.args)], args...)...)
	cmd.Env = append(os.Environ(), "REGISTRY_AUTH_FILE="+filepath.Join(c.m.root, "run/auth.json"))
	cmd.Stdin = strings.NewReader(stdin)
	_, err := instance.Output(cmd)
	return err
}

// checkContainers configures a runtime that reads the files of containers/image, and pulls
// with the tool.
func checkContainers(t *testing.T, runtime string, tool func(m *machine) containersTool,
	pull func(c containersTool, ref string) error) {
	edges := startEdges(t)
	m := newMachine(t)
	m.write(t, "etc/containers/registries.conf", "[[registry]]\nlocation = \"docker.io\"\n"+
		"[[registry.mirror]]\nlocation = \"localhost:1/none\"\ninsecure = true\n")
	before := m.files(t)
	c := tool(m)
	for _, s := range edges {
		m.ferry(t, s.configure(runtime, "--mirror-of", "docker.io=hub")...)
		if err := c.run(s.token.Password, "login", "--username", s.token.User, "--password-stdin", s.host); err != nil {
			t.Errorf("%s: %v", s.kind, err)
		}
		for _, ref := range []string{s.host + "/apps/private:v1", "docker.io/library/mirrored:v1"} {
			if err := pull(c, ref); err != nil {
				t.Errorf("%s: %v", s.kind, err)
			}
		}
		m.restore(t, before)
		if err := pull(c, s.host+"/apps/private:v1"); err == nil {
			t.Errorf("%s: a pull after the restore succeeded", s.kind)
		}
	}
}

func TestPodmanPullsFromAConfiguredNode(t *testing.T) {
	path := program(t, "podman")
	checkContainers(t, "podman", func(m *machine) containersTool {
		return containersTool{m, path, []string{"--root", m.root + "/run/root", "--runroot", m.root + "/run/run",
			"--storage-driver", "vfs", "--events-backend", "none", "--cgroup-manager", "cgroupfs"}}
	}, func(c containersTool, ref string) error {
		if err := c.run("", "rmi", "--all", "--force"); err != nil {
			return err
		}
		return c.run("", "pull", "--quiet", ref)
	})
}

// CRI-O cannot be had in a test. Skopeo has the same library for these files.
func TestSkopeoReadsTheFilesOfCRIO(t *testing.T) {
	path := program(t, "skopeo")
	checkContainers(t, "crio", func(m *machine) containersTool { return containersTool{m, path, nil} },
		func(c containersTool, ref string) error {
			return c.run("", "copy", "--quiet", "docker://"+ref, "dir:"+c.m.root+"/run/image")
		})
}

func TestDockerPullsFromAConfiguredNode(t *testing.T) {
	server, docker := program(t, "dockerd"), program(t, "docker")
	edges := startEdges(t)
	m := newMachine(t)
	c := containerds[0]
	m.write(t, "etc/containerd/config.toml", c.config(m, ""))
	m.write(t, "etc/docker/daemon.json", `{
    "bridge": "none", "iptables": false,
    "storage-driver": "vfs",
    "debug": false
}
`)
	c.start(t, m)
	cmd := m.command(server, "--containerd", m.root+"/run/sock", "--host", "unix://"+m.root+"/run/docker.sock",
		"--data-root", m.root+"/run/docker", "--exec-root", m.root+"/run/exec", "--pidfile", m.root+"/run/docker.pid")
	cmd.Env = append(os.Environ(), "DOCKER_TMPDIR="+m.root+"/run")
	daemon.Start(t, cmd, func(line string) string {
		if strings.Contains(line, "API listen on") {
			return line
		}
		return ""
	})
	before := m.files(t)
	run := func(stdin string, args ...string) (string, error) {
		cmd := exec.Command(docker, append([]string{"--host", "unix://" + m.root + "/run/docker.sock", "--config",
			m.root + "/run/login"}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		return instance.Output(cmd)
	}
	// reload makes dockerd read daemon.json, and waits until its settings have the text.
	reload := func(text string) {
		t.Helper()
		if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		deadline := time.After(time.Minute)
		for {
			out, err := run("", "info", "--format", "{{json .RegistryConfig}}")
			if err == nil && strings.Contains(out, text) {
				return
			}
			select {
			case <-deadline:
				t.Fatalf("after a reload, Docker's settings are %s, %v", out, err)
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	for _, s := range edges {
		out := m.ferry(t, s.configure("docker")...)
		if needed := strings.Contains(out, "systemctl reload docker"); needed != (s.ca == "") {
			t.Errorf("%s: a reload is needed: %t\n%s", s.kind, needed, out)
		}
		if s.ca == "" {
			reload(s.host)
		}
		_, err := run(s.token.Password, "login", "--username", s.token.User, "--password-stdin", s.host)
		if err != nil {
			t.Errorf("%s: %v", s.kind, err)
		}
		if _, err := run("", "pull", s.host+"/apps/private:v1"); err != nil {
			t.Errorf("%s: %v", s.kind, err)
		}
		// A mirror for docker.io gets no login, so only what anybody may pull comes from it.
		m.ferry(t, s.configure("docker", "--mirror-of", "docker.io")...)
		reload(s.endpoint)
		if _, err := run("", "pull", "library/mirrored:v1"); err != nil {
			t.Errorf("%s: %v", s.kind, err)
		}
		m.restore(t, before)
		if _, err := run("", "pull", s.host+"/library/mirrored:v1"); err == nil && s.ca != "" {
			t.Errorf("%s: a pull after the restore succeeded", s.kind)
		}
		if _, err := run("", "rmi", "--force", "library/mirrored:v1", s.host+"/apps/private:v1"); err != nil {
			t.Error(err)
		}
	}
}
