package replication_test

import (
	"testing"
	"testing/synctest"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"ferry/internal/oci"
	"ferry/internal/replication"
	"ferry/internal/storage"
)

func TestChangedPlatformsAreReplannedAfterAKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipeParent(t)
		subscribe := func(platforms ...string) { p.subscribed.Store(&childSubscription{platforms: platforms}) }
		var children []oci.Descriptor
		for i, arch := range []string{"amd64", "arm64"} {
			child := p.image("app", [][]byte{randomBytes(uint64(i), 20<<10)})
			child.Platform = &v1.Platform{OS: "linux", Architecture: arch}
			children = append(children, child)
		}
		p.index("app", children, "v1")
		r := &restartableReplica{t: t, dir: t.TempDir(), source: p.client(), children: heldChildren}
		r.start()
		defer r.stop()
		r.follow()
		r.sync()
		assertInSync(t, p, r.Storage)
		for _, platforms := range [][]string{{"linux/arm64"}, {"linux/amd64", "linux/arm64"}, {"linux/amd64"}, nil} {
			subscribe(platforms...)
			r.follow()
			r.kill(func() {})
			r.sync()
			assertInSync(t, p, r.Storage)
		}
	})
}

func TestReadLockedIndexCountsAsWhole(t *testing.T) {
	p := newParent(t)
	nested := p.index("app", []oci.Descriptor{p.image("app", [][]byte{randomBytes(1, 1000)})})
	index := p.index("app", []oci.Descriptor{p.image("app", [][]byte{randomBytes(2, 1000)}), nested}, "v1")
	r := newReplica(t, p, replication.Options{})
	r.follow()
	r.sync()
	for _, d := range []oci.Descriptor{index, nested} {
		if err := r.ChangeLocks(t.Context(), "app", string(d.Digest),
			storage.LockChange{Set: storage.NoRead}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.SetTag(t.Context(), "app", "v2", index.Digest); err != nil {
		t.Fatal(err)
	}
	r.follow()
	if result := r.sync(); result.Synced != 1 || result.Received != 0 {
		t.Errorf("Sync = %+v, want one synced item and no received byte", result)
	}
}
