package replication_test

import (
	"testing"
	"testing/synctest"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"ferry/internal/oci"
)

func TestARecheckOutlivesAKillBeforeTheNextSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipeParent(t)
		only := func(platforms ...string) { p.platforms.Store(&platforms) }
		var children []oci.Descriptor
		for i, arch := range []string{"amd64", "arm64"} {
			child := p.image("app", [][]byte{random(uint64(i), 20<<10)})
			child.Platform = &v1.Platform{OS: "linux", Architecture: arch}
			children = append(children, child)
		}
		p.index("app", children, "v1")
		site := &restartable{t: t, dir: t.TempDir(), source: p.client(), below: heldChildren}
		site.start()
		defer site.stop()
		site.follow()
		site.sync()
		same(t, p, site.Storage)
		for _, platforms := range [][]string{{"linux/arm64"}, {"linux/amd64", "linux/arm64"}, {"linux/amd64"}, nil} {
			only(platforms...)
			site.learn()
			site.kill(func() {})
			site.sync()
			same(t, p, site.Storage)
		}
	})
}
