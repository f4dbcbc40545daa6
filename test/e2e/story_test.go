//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ferry/test/cluster"
	"ferry/test/image"
	"ferry/test/instance"
)

func TestUserStoryRunsAsWritten(t *testing.T) {
	if *clustered {
		c := cluster.Start(t, cluster.Options{})
		runStory(t, c.Root(), c.PIDs(), "PARENT_PROTOCOL=http")
		return
	}
	cert, key := certificate(t)
	root := instance.Start(t, instance.Options{Args: []string{"--tls-cert", cert, "--tls-key", key}})
	runStory(t, root, []int{root.PID()}, "SSL_CERT_FILE="+cert)
}

// runStory runs the user story with root, which consists of the processes pids.
func runStory(t *testing.T, root *instance.Instance, pids []int, env ...string) {
	t.Helper()
	skopeo, jq := program(t, "skopeo"), program(t, "jq")
	admin := root.Admin(t, "mycontainerregistry", env...)
	var want []string
	for i, repo := range []string{"somenamespace/app", "somenamespace/web", "othernamespace/app"} {
		img := image.New(t, image.Options{Seed: uint64(10 + i), Layers: []int64{1 << 20, 1000}})
		admin.Run(t, "push-layout", img.Dir, "mycontainerregistry/"+repo+":"+img.Tag)
		if strings.HasPrefix(repo, "somenamespace/") {
			want = append(want, fmt.Sprintf("pulled %s %s", repo, img.Digest),
				fmt.Sprintf("pulled offline %s %s", repo, img.Digest))
		}
	}
	path := []string{filepath.Dir(instance.Binary(t)), filepath.Dir(skopeo), filepath.Dir(jq), os.Getenv("PATH")}
	cmd := exec.Command("bash", "testdata/story.sh")
	cmd.Env = append(admin.Env(),
		"PATH="+strings.Join(path, ":"), "SITE="+t.TempDir(), "PARENT_PIDS="+strings.Trim(fmt.Sprint(pids), "[]"))
	out, err := instance.Output(cmd)
	if err != nil {
		t.Fatalf("%v\nthe parent's log:\n%s", err, root.Log())
	}
	for _, line := range want {
		if !strings.Contains(out, line+"\n") {
			t.Errorf("the output has no line %q:\n%s", line, out)
		}
	}
}
