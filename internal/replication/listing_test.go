package replication_test

import (
	"testing"

	"ferry/internal/oci"
	"ferry/internal/replication"
)

// What a replica has of things without a tag must not depend on whether it was
// told by changes or by a snapshot: each of these is followed in both ways.
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
		"a referrer of what comes back under another tag": func(t *testing.T, p *parent, pause func()) {
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
		"a referrer of what was deleted and pushed again": func(t *testing.T, p *parent, pause func()) {
			subject := p.image("app", [][]byte{randomBytes(1, 1000)}, "v1")
			p.referrer("app", subject, []byte("signature"))
			pause()
			p.delete(t, "app", subject)
			pause()
			p.image("app", [][]byte{randomBytes(1, 1000)}, "v1")
		},
		"a referrer that was there before its subject": func(t *testing.T, p *parent, pause func()) {
			subject := p.image("app", [][]byte{randomBytes(1, 1000)}, "v1")
			p.delete(t, "app", subject)
			pause()
			p.referrer("app", subject, []byte("signature"))
			pause()
			p.image("app", [][]byte{randomBytes(1, 1000)}, "v1")
			pause()
			p.untag(t, "app", "v1")
		},
		"a referrer that was there before its subject, which goes nowhere": func(t *testing.T, p *parent, pause func()) {
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
			for _, way := range []string{"changes", "changes that are not fetched", "snapshots", "one snapshot"} {
				ways[way] = newReplica(t, p, replication.Options{})
				ways[way].follow()
				ways[way].sync()
			}
			history(t, p, func() {
				ways["changes"].follow()
				ways["changes"].sync()
				ways["changes that are not fetched"].follow()
				ways["snapshots"].relist()
				ways["snapshots"].sync()
			})
			ways["changes"].follow()
			ways["changes that are not fetched"].follow()
			ways["snapshots"].relist()
			ways["one snapshot"].relist()
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
		[]oci.Descriptor{p.image("app", [][]byte{randomBytes(2, 1000)}), p.image("app", [][]byte{randomBytes(3, 1000)})}, "v1")
	r.follow() // the children came by themselves, and are the index's now
	counts := func(when string, wantSynced, wantPending int) {
		t.Helper()
		synced, pending, failed, err := r.Counts(t.Context())
		if synced != wantSynced || pending != wantPending || failed != 0 || err != nil {
			t.Errorf("%s: %d synced, %d pending, %d failed, %v; want %d synced, %d pending", when, synced, pending,
				failed, err, wantSynced, wantPending)
		}
	}
	counts("told", 1, 1)
	r.sync()
	counts("fetched", 2, 0)
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
