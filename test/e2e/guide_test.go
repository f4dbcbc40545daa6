//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"ferry/test/image"
	"ferry/test/instance"
)

// A guide is a page of docs/install.
type guide struct {
	programs []string  // that must be installed
	docker   bool      // the guide needs Docker, and the image of Ferry in the root
	before   string    // shell commands that run before those of the page, as testdata/guide.sh does
	replace  [2]string // an address that tests do not reach, and its replacement
	want     []string  // lines of the output begin so
	after    string    // shell commands that fail unless the page undid everything
}

// guides are the pages whose commands run here. test/kubernetes runs others.
var guides = map[string]guide{
	"compose.md": {
		programs: []string{"docker", "dockerd", "docker-compose"}, docker: true,
		want: []string{"In sync as of", "Status: Downloaded newer image for ship1.example:5000/apps/alpine:3.22"},
		after: `
			test -z "$(docker ps --all --quiet)$(docker volume ls --quiet)"
			test ! -e /etc/docker/certs.d/ship1.example:5000 -a ! -e /var/lib/ferry-client
			test "$(ls)" = $'deckhand.password\nship1.connection'`,
	},
	"docker.md": {
		programs: []string{"docker", "dockerd"}, docker: true,
		want: []string{"In sync as of", "Status: Downloaded newer image for ship1.example:5000/apps/alpine:3.22"},
		after: `
			test -z "$(docker ps --all --quiet)$(docker volume ls --quiet)"
			test ! -e /etc/docker/certs.d/ship1.example:5000 -a ! -e /var/lib/ferry-client`,
	},
	"systemd.md": {
		programs: []string{"podman", "systemd-analyze", "setpriv"}, before: "systemd.sh",
		want: []string{"In sync as of", "  ok    pull "},
		after: `
			podman image exists ship1.example:5000/apps/alpine:3.22
			test ! -e /etc/ferry -a ! -e /etc/systemd/system/ferry.service -a ! -e /var/lib/ferry-client`,
	},
	"behind-a-proxy.md": {
		programs: []string{"nginx", "openssl"}, before: "proxy.sh",
		want: []string{"  ok    login ", `  "apps/alpine"`},
		after: `
			grep -q 'sender=198.51.100.2 action=create object=connected-registries/ship1' /run/registry.log
			test ! -e /etc/nginx/conf.d/registry.conf -a ! -e /etc/nginx/registry.key`,
	},
	"air-gapped-nodes.md": {
		programs: []string{"podman"}, before: "airgap.sh",
		replace: [2]string{"docker://docker.io/library/alpine:3.22", "oci:/run/guide/layout:v1"},
		want:    []string{`  "3.22"`},
		after:   `test ! -e /var/lib/ferry-client -a ! -e /etc/containers/registries.conf.d/zz-ferry-client.conf`,
	},
	"iot-edge.md": {
		programs: []string{"docker", "dockerd", "jq", "curl"}, docker: true, before: "iotedge.sh",
		want:  []string{"Wrote deployment.json", "Wrote cell7/deployment.json", "In sync as of"},
		after: "run_module deployment.json && docker rm --force connected-registry",
	},
	"k3s.md": {
		before: "k3s.sh",
		want:   []string{"Wrote values.yaml"},
		after:  `test -s /var/lib/rancher/k3s/agent/images/ferry.tar`,
	},
}

func TestGuidesRunAsWritten(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a machine of its own needs root")
	}
	ferry := sync.OnceValue(func() string { return image.Ferry(t, instance.Binary(t), "v1") })
	for page, g := range guides {
		t.Run(page, func(t *testing.T) {
			for _, name := range append([]string{"unshare", "ip", "skopeo"}, g.programs...) {
				program(t, name)
			}
			out := g.run(t, page, ferry)
			for _, line := range g.want {
				if !strings.Contains("\n"+out, "\n"+line) {
					t.Errorf("no line begins with %q:\n%s", line, out)
				}
			}
		})
	}
}

// run runs the commands of the page as they are written there, in testdata/guide.sh's machine,
// and returns their output.
func (g guide) run(t *testing.T, page string, ferry func() string) string {
	t.Helper()
	dir := shortDir(t)
	img := image.New(t, image.Options{Seed: 61, Layers: []int64{100_000}})
	parts := [][2]string{{instance.Binary(t), "ferry"}, {img.Dir, "layout"}}
	script := []string{readFile(t, "testdata/guide.sh")}
	if g.docker {
		parts = append(parts, [2]string{ferry(), "image"})
		script = append(script, readFile(t, "testdata/docker.sh"))
	}
	for _, p := range parts {
		if _, err := instance.Output(exec.Command("cp", "-r", p[0], filepath.Join(dir, p[1]))); err != nil {
			t.Fatal(err)
		}
	}
	if g.before != "" {
		script = append(script, readFile(t, "testdata/"+g.before))
	}
	blocks := shellBlock.FindAllStringSubmatch(readFile(t, "../../docs/install/"+page), -1)
	if len(blocks) == 0 {
		t.Fatal("the page has no commands")
	}
	for _, block := range blocks {
		commands := block[1]
		if g.replace[0] != "" {
			commands = strings.ReplaceAll(commands, g.replace[0], g.replace[1])
		}
		script = append(script, "set -x", commands, "{ set +x; } 2>/dev/null")
	}
	script = append(script, g.after)
	writeFile(t, filepath.Join(dir, "script.sh"), strings.Join(script, "\n")+"\n")
	// All processes of the machine end with the first one.
	cmd := exec.Command("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
		"bash", filepath.Join(dir, "script.sh"))
	cmd.Env = append(os.Environ(), "GUIDE="+dir)
	out, err := instance.Output(cmd)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
