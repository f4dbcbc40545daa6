package replication_test

import (
	"testing"

	"ferry/internal/replication"
)

// The referrer of an image that left goes with it, also where only changes are
// followed, which do not say so.
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
		t.Errorf("the referrer is here: %v, %v", has, err)
	}
	followed := r.items()
	r.relist()
	r.sync()
	if stock := r.items(); len(stock) != len(followed) {
		t.Errorf("by changes there are %v, by a snapshot %v", followed, stock)
	}
}
