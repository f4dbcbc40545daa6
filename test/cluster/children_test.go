//go:build cluster

package cluster_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/test/cluster"
	"ferry/test/image"
	"ferry/test/instance"
)

// Ten connected registries poll both processes in turn, while images are pushed and deleted and a
// process is killed.
func TestTenConnectedRegistriesStayInSync(t *testing.T) {
	c := cluster.Start(t, cluster.Options{})
	admin := c.Root().Admin(t, "root")
	l := c.Root().AsAdmin(t)
	var children []*instance.Instance
	for i := range 10 {
		connection := instance.Connect(t, admin, fmt.Sprintf("ship%d", i), c.Proxy.Host, []string{"load/*"})
		children = append(children, instance.Start(t, connection.Options(instance.Options{})))
	}
	ctx, cancel := context.WithTimeout(t.Context(), settleTimeout)
	defer cancel()
	for i := range 3 {
		img := image.New(t, image.Options{Seed: uint64(300 + i), Tag: "t0", Layers: []int64{1000, 300_000}})
		if err := l.Push(ctx, "load/app", img); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			c.Processes[0].Kill(t)
		}
		for _, child := range children {
			hasContent(ctx, t, child.AsAdmin(t), map[string]map[string]digest.Digest{"load/app": {"t0": img.Digest}})
		}
		if i == 1 {
			c.Processes[0].Start(t)
		}
	}
	admin.Run(t, "repository", "delete", "--name", "root", "--repository", "load/app", "--yes")
	for _, child := range children {
		hasContent(ctx, t, child.AsAdmin(t), map[string]map[string]digest.Digest{"load/app": {}})
	}
}
