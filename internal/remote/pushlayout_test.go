package remote_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"ferry/internal/oci"
	"ferry/internal/remote"
)

func TestPushTakesReferrersOfReferrersAlong(t *testing.T) {
	address, password := serve(t)
	target, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	old := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/referrers/") {
			http.NotFound(w, r)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(old.Close)
	for _, test := range []struct{ name, address, repository string }{
		{"registry that lists referrers", address, "new"},
		{"registry without the endpoint", old.URL, "old"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := client(t, test.address, remote.Options{Username: "admin", Password: password})
			l, index, _ := pack(t)
			empty, err := l.PutJSON(v1.MediaTypeEmptyJSON, struct{}{})
			if err != nil {
				t.Fatal(err)
			}
			refer := func(kind string, subject oci.Descriptor) oci.Descriptor {
				d, err := l.PutJSON(v1.MediaTypeImageManifest, v1.Manifest{
					Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
					ArtifactType: kind, Config: empty, Layers: []oci.Descriptor{empty}, Subject: &subject,
				})
				if err != nil {
					t.Fatal(err)
				}
				return d
			}
			sbom := refer("text/sbom", index)
			signature := refer("text/signature", sbom)
			unrelated := refer("text/other", empty)
			push := func() *remote.PushProgress {
				p := &remote.PushProgress{}
				all, err := r.PushWithReferrers(t.Context(), test.repository, "v1", index,
					[]oci.Descriptor{signature, unrelated, sbom}, l, p)
				if err != nil || len(all) != 2 {
					t.Fatalf("pushed referrers %v, %v", all, err)
				}
				return p
			}
			if p := push(); p.Sent.Load() == 0 || p.Sent.Load() > p.Total.Load() {
				t.Errorf("sent %d of %d bytes", p.Sent.Load(), p.Total.Load())
			}
			if p := push(); p.Sent.Load() != 0 {
				t.Errorf("sent %d bytes again", p.Sent.Load())
			}
			for _, pair := range [][2]oci.Descriptor{{index, sbom}, {sbom, signature}} {
				found, err := r.Referrers(t.Context(), test.repository, pair[0].Digest)
				if err != nil || len(found.Digests) != 1 || found.Digests[0] != pair[1].Digest {
					t.Errorf("referrers of %s: %+v, %v", pair[0].Digest, found, err)
				}
			}
			if _, err := r.Manifest(t.Context(), test.repository, string(unrelated.Digest)); err == nil {
				t.Error("a manifest of another subject was pushed")
			}
		})
	}
}
