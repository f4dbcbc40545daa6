//go:build e2e

package e2e

import (
	"flag"
	"testing"

	"ferry/test/cluster"
	"ferry/test/instance"
)

// clustered makes every root of startRoot a cluster. Tests that end their root cannot run so.
var clustered = flag.Bool("cluster", false, "run roots as several processes behind a proxy")

// startRoot starts a root registry.
func startRoot(t *testing.T) *instance.Instance {
	t.Helper()
	if *clustered {
		return cluster.Start(t, cluster.Options{}).Root()
	}
	return instance.Start(t, instance.Options{})
}

// pushToken creates a token at a root that may read, write and delete the contents of a
// repository, or of prefix/*.
func pushToken(t *testing.T, root *instance.Instance, repository string) instance.Login {
	t.Helper()
	sh := root.Admin(t, "root")
	sh.Run(t, "scope-map", "create", "--name", "pushers", "--repository", repository,
		"content/read", "content/write", "content/delete", "metadata/read", "metadata/write")
	l := instance.Token(t, sh, "pusher", "pushers")
	l.Host = root.Host
	return l
}
