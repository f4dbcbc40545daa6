package replication_test

import (
	"testing"

	"ferry/internal/replication"
)

// A short listing does not say that the referrers of a removed image are gone, too.
func TestReferrersAreRemovedWithTheirSubject(t *testing.T) {
	p := newParent(t)
	r := newReplica(t, p, replication.Options{})
	p.image("app", [][]byte{randomBytes(1, 200)}, "v0")
	r.follow()
	v1 := p.image("app", [][]byte{randomBytes(1, 2000)}, "v1")
	referrer := p.referrer("app", v1, randomBytes(100, 3000))
	r.follow()
	r.sync()
	p.image("app", [][]byte{randomBytes(2, 2000)}, "v1")
	r.follow()
	r.sync()
	if has, err := r.HasManifest(t.Context(), "app", referrer.Digest); has || err != nil {
		t.Errorf("HasManifest of the referrer = %v, %v", has, err)
	}
	short := r.items()
	r.relist()
	r.sync()
	if complete := r.items(); len(complete) != len(short) {
		t.Errorf("items are %v after short listings, and %v after complete ones", short, complete)
	}
}
