//go:build e2e

package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"ferry/test/daemon"
	"ferry/test/image"
)

// The root mirrors only one platform of an image with two.
func TestMachinesPullTheirPlatformOfASparseIndex(t *testing.T) {
	host := daemon.Distribution(t, program(t, "registry"), daemon.DistributionConfig{})
	push := command{path: program(t, "crane"), args: []string{"--insecure"}}
	args := []string{"index", "append", "-t", host + "/team/app:v1"}
	for i, arch := range []string{"amd64", "arm64"} {
		img := image.New(t, image.Options{Seed: 60 + uint64(i), Arch: arch, Layers: []int64{10_000}})
		ref := host + "/team/app:" + arch
		if _, err := push.run("push", img.Dir, ref); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-m", ref)
	}
	if _, err := push.run(args...); err != nil {
		t.Fatal(err)
	}
	root := startRoot(t)
	sh := root.Admin(t, "root")
	sh.Run(t, "mirror", "create", "-n", "app", "--source", "http://"+host+"/team/app", "--repository", "local/app",
		"--tag-filter", "v1", "--platform", "linux/arm64")
	sh.Run(t, "mirror", "run", "-n", "app", "--wait")

	admin := root.AsAdmin(t)
	ref := root.Host + "/local/app:v1"
	skopeo, podman, containerd := newSkopeo(t, admin).(*skopeo), newPodman(t, admin).(*podman), newContainerd(t,
		admin).(*containerd)
	for _, c := range []client{skopeo, podman} {
		if err := c.login(); err != nil {
			t.Fatal(err)
		}
	}
	for name, pull := range map[string]func(arch string) (string, error){
		"skopeo": func(arch string) (string, error) {
			return skopeo.run("--override-arch", arch, "copy", "--quiet", "--authfile", skopeo.auth,
				"--src-tls-verify=false", "docker://"+ref, "dir:"+filepath.Join(t.TempDir(), arch))
		},
		"podman": func(arch string) (string, error) {
			return podman.run("pull", "--quiet", "--arch", arch, "--authfile", podman.auth, "--tls-verify=false", ref)
		},
		"containerd": func(arch string) (string, error) {
			return containerd.run("--namespace", arch, "images", "pull", "--plain-http", "--user",
				admin.User+":"+admin.Password, "--platform", "linux/"+arch, ref)
		},
	} {
		t.Run(name, func(t *testing.T) {
			if out, err := pull("arm64"); err != nil {
				t.Errorf("pull of the mirrored platform: %v, %s", err, out)
			}
			out, err := pull("amd64")
			if err == nil {
				t.Fatalf("pull of the missing platform succeeded: %s", out)
			}
			t.Log(err)
			// containerd does not show the message of a 404.
			if text := err.Error(); !strings.Contains(text, "not for this platform") &&
				!(name == "containerd" && strings.Contains(text, "not found")) {
				t.Errorf("the error does not name the reason: %s", text)
			}
		})
	}
}
