//go:build kubernetes

package kubernetes

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/test/instance"
)

// shellBlock finds the commands of a page.
var shellBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

func TestKubernetesGuideRunsAsWritten(t *testing.T) {
	w := startNetwork(t, containerds[1], fastLink)
	w.do(t, "kubectl", "annotate", "storageclass", "local-path", "storageclass.kubernetes.io/is-default-class=true")
	w.node.importImage(t, w.image, w.link.Host+"/ferry:"+chartVersion(t))
	if err := w.root.AsAdmin(t).Push(t.Context(), "apps/web", programImage(t, "1.0", pause(t), 1)); err != nil {
		t.Fatal(err)
	}
	w.admin.Run(t, "scope-map", "create", "--name", "pull-apps", "--repository", "apps/*", "content/read")
	deckhand := instance.Token(t, w.admin, "deckhand", "pull-apps")
	connection := instance.Connect(t, w.admin, "ship1", w.link.Host, []string{"ferry", "apps/*"},
		"--client-tokens", "deckhand")
	before := w.node.files(t)

	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "ship1.connection"), connection.ConnectionString)
	writeFile(t, filepath.Join(dir, "deckhand.password"), deckhand.Password)
	charts, err := filepath.Abs("../../charts")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(charts, filepath.Join(dir, "charts")); err != nil {
		t.Fatal(err)
	}
	script := []string{"set -euxo pipefail"}
	for _, block := range shellBlock.FindAllStringSubmatch(readFile(t, "../../docs/install/kubernetes.md"), -1) {
		script = append(script, block[1])
	}
	cmd := w.command(t, "bash", "-c", strings.Join(script, "\n"))
	cmd.Dir = dir
	out, err := instance.Output(cmd)
	if err != nil {
		w.describe(t)
		t.Fatal(err)
	}
	if !strings.Contains(out, `deployment "web" successfully rolled out`) {
		t.Errorf("the deployment web did not start:\n%s", out)
	}
	if diff := cmp.Diff(before, w.node.files(t)); diff != "" {
		t.Errorf("the node's files before the guide, and after it (-, +):\n%s", diff)
	}
}
