package replication_test

import (
	"testing"

	"ferry/internal/oci"
	"ferry/internal/replication"
)

func TestReplicaBecomesWhatTheParentIs(t *testing.T) {
	p := newParent(t)
	base := random(1, 300<<10)
	v1 := p.image("app/web", [][]byte{base, random(2, 2<<20)}, "v1", "latest")
	p.image("app/db", [][]byte{base, []byte("small")}, "v1")
	amd := p.image("multi", [][]byte{random(3, 100<<10)})
	arm := p.image("multi", [][]byte{random(4, 100<<10)})
	p.index("multi", []oci.Descriptor{amd, arm}, "v1")
	p.referrer("app/web", v1, []byte("signature"))
	r := newReplica(t, p, replication.Options{})
	r.follow()
	r.sync()
	same(t, p, r.Storage)
	if again := r.sync(); again != (replication.Result{}) {
		t.Errorf("a second Sync did something: %+v", again)
	}
}
