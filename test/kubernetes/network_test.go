//go:build kubernetes

package kubernetes

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"ferry/test/image"
	"ferry/test/instance"
	"ferry/test/link"
)

// A network is a root with Ferry's image and the images of pods, and behind a poor link a cluster
// with one node.
type network struct {
	*cluster
	node  *node
	root  *instance.Instance
	link  *link.Link // to the root; connection strings name it
	admin *instance.Shell
	image string // Ferry's, as an OCI image layout
}

// fastLink lets containerd pull Ferry's image, which would begin anew after each cut. poorLink is
// cut while the image syncs.
var (
	fastLink = []string{"-down", "100mbit", "-up", "20mbit"}
	poorLink = []string{"-down", "40mbit", "-up", "10mbit", "-cut-every", "3s", "-cut-for", "1s"}
)

// chartVersion returns the tag of Ferry's image that the chart asks for.
func chartVersion(t *testing.T) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^appVersion: "(.*)"$`).FindStringSubmatch(
		readFile(t, "../../charts/connected-registry/Chart.yaml"))
	if m == nil {
		t.Fatal("the chart has no appVersion")
	}
	return m[1]
}

// startNetwork runs a root with Ferry's image and images of programs in repos, and a cluster. linkFlags
// are flags of linksim.
func startNetwork(t *testing.T, runtime containerd, linkFlags []string, repos ...string) *network {
	t.Helper()
	needMachine(t)
	l := link.Start(t, rootAddress+":5000", append([]string{"-listen", rootAddress + ":7000", "-rtt", "50ms"},
		linkFlags...)...)
	w := &network{link: l, cluster: startCluster(t), image: image.Ferry(t, instance.Binary(t), chartVersion(t))}
	w.node = startNode(t, w.cluster, runtime)
	w.apply(t, readFile(t, "testdata/storage.yaml"))
	w.startRoot(t)
	w.admin = w.root.Admin(t, "mycontainerregistry")
	for i, repo := range repos {
		if err := w.root.AsAdmin(t).Push(t.Context(), repo, programImage(t, "v1", pause(t), uint64(i))); err != nil {
			t.Fatal(err)
		}
	}
	push := w.command(t, "ferry", "push-layout", w.image, w.root.URL+"/ferry:"+chartVersion(t))
	push.Env = append(push.Env, "FERRY_CONFIG_DIR="+t.TempDir(), "FERRY_USERNAME=admin",
		"FERRY_PASSWORD="+w.root.AdminPassword(t))
	if _, err := instance.Output(push); err != nil {
		t.Fatal(err)
	}
	return w
}

// startRoot turns the root on, for the first time or again.
func (w *network) startRoot(t *testing.T) {
	t.Helper()
	w.root = instance.Start(t, instance.Options{
		DataDir: filepath.Join(w.dir, "root"),
		Listen:  rootAddress + ":5000",
		Args:    []string{"--external-url", "http://" + w.link.Host},
	})
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
