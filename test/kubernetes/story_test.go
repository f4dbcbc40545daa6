//go:build kubernetes

package kubernetes

import (
	"fmt"
	"os/exec"
	"testing"

	"ferry/test/instance"
)

func TestUserStoryRunsOnANode(t *testing.T) {
	for _, runtime := range containerds {
		t.Run("containerd "+runtime.version, func(t *testing.T) {
			w := startNetwork(t, runtime, fastLink, "somenamespace/app", "othernamespace/app")
			w.apply(t, `
apiVersion: v1
kind: Namespace
metadata: {name: mynamespace, labels: {pod-security.kubernetes.io/enforce: restricted}}
`)
			cmd := exec.Command("bash", "testdata/story.sh")
			cmd.Env = append(w.admin.Env(), w.env(t)...)
			cmd.Env = append(cmd.Env, w.node.shell(t)...)
			cmd.Env = append(cmd.Env, "SITE="+t.TempDir(),
				fmt.Sprintf("PARENT_PID=%d", w.root.PID()))
			if out, err := instance.Output(cmd); err != nil {
				w.describe(t)
				t.Fatalf("%v\n%s\nthe root's log:\n%s", err, out, w.root.Log())
			}
		})
	}
}
