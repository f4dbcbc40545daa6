package replication_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/replication"
	"ferry/internal/storage/storagetest"
)

// foreign describes a layer that a registry may lack.
func foreign(content []byte) oci.Descriptor {
	return oci.Descriptor{
		MediaType: "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Digest: digest.FromBytes(content),
		Size: int64(len(content)), URLs: []string{"https://example.com/layer"},
	}
}

func TestForeignLayerIsSyncedIfTheParentHasIt(t *testing.T) {
	p := newParent(t)
	small, large, absent, private := randomBytes(1, 100), randomBytes(2, 300<<10), randomBytes(3, 100), randomBytes(4,
		100)
	m := p.Image("app", "config")
	m.Layers = []oci.Descriptor{foreign(small), foreign(large), foreign(absent), foreign(private)}
	p.PushBlob("app", small)
	p.PushBlob("app", large)
	p.Push("app", m, "v1")
	p.image("other", [][]byte{private}, "v1") // readers of app may not read it
	r := newReplica(t, p, replication.Options{})
	r.follow()
	r.sync()
	for name, test := range map[string]struct {
		layer  []byte
		stored bool
	}{"small": {small, true}, "large": {large, true}, "absent": {absent, false}, "private": {private, false}} {
		if _, err := r.StatBlob(t.Context(), "app", digest.FromBytes(test.layer)); (err == nil) != test.stored {
			t.Errorf("%s layer: StatBlob = %v, want it stored: %v", name, err, test.stored)
		}
	}
}

func TestUnavailableForeignLayerIsLeftOut(t *testing.T) {
	p := newParent(t)
	layer := randomBytes(1, 300<<10)
	p.PushBlob("app", layer)
	m := p.Image("app", "config", randomBytes(2, 300<<10))
	m.Layers = append(m.Layers, foreign(layer))
	root := p.Push("app", m, "v1")
	p.respond = func(w http.ResponseWriter, req *http.Request) bool {
		refused := strings.HasSuffix(req.URL.Path, digest.FromBytes(layer).String())
		if refused {
			oci.WriteError(w, oci.ErrBlobUnknown)
		}
		return refused
	}
	r := newReplica(t, p, replication.Options{})
	r.follow()
	r.sync()
	if got, err := r.Manifest(t.Context(), "app", "v1"); err != nil || got.Digest != root.Digest {
		t.Errorf("Manifest = %v, %v", got, err)
	}
}

func TestIndexOfBlobsIsSynced(t *testing.T) {
	p := newParent(t)
	var entries []oci.Descriptor
	for i, size := range []int{100, 300 << 10} {
		entry := p.PushBlob("cache", randomBytes(uint64(i), size))
		entry.MediaType = "application/vnd.oci.image.layer.v1.tar+gzip"
		entries = append(entries, entry)
	}
	entries = append(entries, p.image("cache", [][]byte{randomBytes(7, 10)}))
	p.Push("cache", storagetest.Index(entries...), "latest")
	r := newReplica(t, p, replication.Options{})
	r.follow()
	r.sync()
	assertInSync(t, p, r.Storage)
	for _, entry := range entries[:2] {
		if _, err := r.StatBlob(t.Context(), "cache", entry.Digest); err != nil {
			t.Error(err)
		}
	}
}
