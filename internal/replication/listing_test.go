package replication_test

import (
	"testing"

	"ferry/internal/oci"
	"ferry/internal/replication"
)

// The untagged manifests of a replica must not depend on whether it received short or complete
// listings. Each history is followed in several ways.
func TestShortAndCompleteListingsGiveTheSameContent(t *testing.T) {
	for name, history := range map[string]func(t *testing.T, p *parent, pause func()){
		"a referrer of an untagged index's child": func(t *testing.T, p *parent, pause func()) {
			child := p.image("app", [][]byte{randomBytes(1, 1000)})
			p.index("app", []oci.Descriptor{child}, "v1")
			pause()
			p.referrer("app", child, []byte("signature"))
			pause()
			p.image("app", [][]byte{randomBytes(2, 1000)}, "v1")
		},
		"a referrer whose untagged subject is deleted": func(t *testing.T, p *parent, pause func()) {
			old := p.image("app", [][]byte{randomBytes(1, 1000)}, "v1")
			p.referrer("app", old, []byte("signature"))
			p.image("app", [][]byte{randomBytes(2, 1000)}, "v1")
			pause()
			p.delete(t, "app", old)
		},
		"a referrer of an image that gets another tag later": func(t *testing.T, p *parent, pause func()) {
			old := p.image("app", [][]byte{randomBytes(1, 1000)}, "v1")
			p.image("app", [][]byte{randomBytes(2, 1000)}, "v1")
			pause()
			p.referrer("app", p.referrer("app", old, []byte("SBOM")), []byte("signature of the SBOM"))
			pause()
			p.tag(t, "app", old, "v2")
			pause()
			p.untag(t, "app", "v2")
			pause()
			p.tag(t, "app", old, "v3")
		},
		"a referrer with a tag of its own for a while": func(t *testing.T, p *parent, pause func()) {
			subject := p.image("app", [][]byte{randomBytes(1, 1000)}, "v1")
			pause()
			p.tag(t, "app", p.referrer("app", subject, []byte("signature")), "signature")
			p.untag(t, "app", "signature")
		},
		"a referrer of an image that is deleted and pushed again": func(t *testing.T, p *parent, pause func()) {
			subject := p.image("app", [][]byte{randomBytes(1, 1000)}, "v1")
			p.referrer("app", subject, []byte("signature"))
			pause()
			p.delete(t, "app", subject)
			pause()
			p.image("app", [][]byte{randomBytes(1, 1000)}, "v1")
		},
		"a referrer that is pushed before its subject": func(t *testing.T, p *parent, pause func()) {
			subject := p.image("app", [][]byte{randomBytes(1, 1000)}, "v1")
			p.delete(t, "app", subject)
			pause()
			p.referrer("app", subject, []byte("signature"))
			pause()
			p.image("app", [][]byte{randomBytes(1, 1000)}, "v1")
			pause()
			p.untag(t, "app", "v1")
		},
		"a referrer that is pushed before its subject, which is untagged": func(t *testing.T, p *parent, pause func()) {
			old := p.image("app", [][]byte{randomBytes(1, 1000)}, "v1")
			p.image("app", [][]byte{randomBytes(2, 1000)}, "v1")
			subject := p.referrer("app", old, []byte("SBOM"))
			p.delete(t, "app", subject)
			pause()
			p.referrer("app", subject, []byte("signature of another SBOM, for now"))
			pause()
			p.referrer("app", old, []byte("SBOM"))
		},
		"a referrer that is deleted": func(t *testing.T, p *parent, pause func()) {
			subject := p.image("app", [][]byte{randomBytes(1, 1000)}, "v1")
			signature := p.referrer("app", subject, []byte("signature"))
			pause()
			p.delete(t, "app", signature)
		},
		"an image that has a tag for a while": func(t *testing.T, p *parent, pause func()) {
			m := p.image("app", [][]byte{randomBytes(1, 1000)})
			pause()
			p.tag(t, "app", m, "v1")
			p.untag(t, "app", "v1")
		},
		"an image that an index holds for a while": func(t *testing.T, p *parent, pause func()) {
			m := p.image("app", [][]byte{randomBytes(1, 1000)})
			pause()
			index := p.index("app", []oci.Descriptor{m}, "v1")
			pause()
			p.delete(t, "app", index)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newParent(t)
			p.image("app", [][]byte{randomBytes(3, 1000)}, "other")
			ways := map[string]*replica{}
			for _, way := range []string{"short listings", "short listings without Syncs", "complete listings",
				"one complete listing"} {
				ways[way] = newReplica(t, p, replication.Options{})
				ways[way].follow()
				ways[way].sync()
			}
			history(t, p, func() {
				ways["short listings"].follow()
				ways["short listings"].sync()
				ways["short listings without Syncs"].follow()
				ways["complete listings"].relist()
				ways["complete listings"].sync()
			})
			ways["short listings"].follow()
			ways["short listings without Syncs"].follow()
			ways["complete listings"].relist()
			ways["one complete listing"].relist()
			for way, r := range ways {
				r.sync()
				t.Run(way, func(t *testing.T) { assertInSync(t, p, r.Storage) })
			}
		})
	}
}

func TestRemovingAnAbsentManifestIsNotPending(t *testing.T) {
	p := newParent(t)
	p.image("app", [][]byte{randomBytes(1, 1000)}, "v0")
	r := newReplica(t, p, replication.Options{})
	r.follow()
	r.sync()
	p.index("app",
		[]oci.Descriptor{p.image("app", [][]byte{randomBytes(2, 1000)}),
			p.image("app", [][]byte{randomBytes(3, 1000)})}, "v1")
	r.follow() // the children were pushed untagged, and belong to the index now
	counts := func(when string, wantSynced, wantPending int) {
		t.Helper()
		synced, pending, failed, err := r.Counts(t.Context())
		if synced != wantSynced || pending != wantPending || failed != 0 || err != nil {
			t.Errorf("%s: %d synced, %d pending, %d failed, %v; want %d synced, %d pending", when, synced, pending,
				failed, err, wantSynced, wantPending)
		}
	}
	counts("listed", 1, 1)
	r.sync()
	counts("synced", 2, 0)
	assertInSync(t, p, r.Storage)
}

func (p *parent) tag(t *testing.T, repository string, m oci.Descriptor, tag string) {
	t.Helper()
	if err := p.SetTag(t.Context(), repository, tag, m.Digest); err != nil {
		t.Fatal(err)
	}
}

func (p *parent) untag(t *testing.T, repository, tag string) {
	t.Helper()
	if err := p.DeleteTag(t.Context(), repository, tag); err != nil {
		t.Fatal(err)
	}
}

func (p *parent) delete(t *testing.T, repository string, m oci.Descriptor) {
	t.Helper()
	if err := p.DeleteManifest(t.Context(), repository, m.Digest); err != nil {
		t.Fatal(err)
	}
}
