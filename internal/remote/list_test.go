package remote_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"ferry/internal/oci"
	"ferry/internal/remote"
)

func TestTagsOfEveryPageAreListed(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("last") {
		case "":
			w.Header().Set("Link", `</v2/a/tags/list?last=v2&n=2>; rel="next"`)
			fmt.Fprint(w, `{"name":"a","tags":["v1","v2"]}`)
		case "v2":
			w.Header().Set("Link", `<https://elsewhere.example/x?last=v3>; rel=next`)
			fmt.Fprint(w, `{"name":"a","tags":["v3"]}`)
		default:
			fmt.Fprint(w, `{"name":"a","tags":null}`)
		}
	}))
	t.Cleanup(s.Close)
	tags, err := client(t, s.URL, remote.Options{}).Tags(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"v1", "v2", "v3"}, tags); diff != "" {
		t.Error(diff)
	}
}

func TestACircularTagListingIsAnError(t *testing.T) {
	for _, link := range []string{`</v2/a/tags/list?n=1000>; rel="next"`, `</v2/a/tags/list?last=v1>; rel="next"`} {
		r := answering(t, http.StatusOK, http.Header{"Link": {link}}, `{"tags":["v1"]}`)
		if _, err := r.Tags(t.Context(), "a"); err == nil {
			t.Errorf("Link %s: no error", link)
		}
	}
}

func TestReferrersAreFoundByEndPointAndByTag(t *testing.T) {
	address, password := serve(t)
	r := client(t, address, remote.Options{Username: "admin", Password: password})
	l, index, _ := pack(t)
	ctx := t.Context()
	if err := r.Push(ctx, "a", "v1", index, l, nil); err != nil {
		t.Fatal(err)
	}
	empty, err := l.PutJSON(v1.MediaTypeImageConfig, map[string]string{})
	if err != nil {
		t.Fatal(err)
	}
	signature, err := l.PutJSON(v1.MediaTypeImageManifest, v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		Config: empty, Layers: []oci.Descriptor{}, Subject: &index,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Push(ctx, "a", string(signature.Digest), signature, l, nil); err != nil {
		t.Fatal(err)
	}
	found, listed, err := r.Referrers(ctx, "a", index.Digest)
	if err != nil || !listed || len(found) != 1 || found[0].Digest != signature.Digest {
		t.Errorf("referrers: %+v, %v", found, err)
	}

	tag := remote.ReferrersTag(index.Digest)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/a/manifests/"+tag {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", v1.MediaTypeImageIndex)
		fmt.Fprintf(w, `{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":7}]}`,
			v1.MediaTypeImageManifest, signature.Digest)
	}))
	t.Cleanup(s.Close)
	old := client(t, s.URL, remote.Options{})
	found, listed, err = old.Referrers(ctx, "a", index.Digest)
	if err != nil || listed || len(found) != 1 || found[0].Digest != signature.Digest {
		t.Errorf("referrers by tag: %+v, %v", found, err)
	}
	if found, _, err := old.Referrers(ctx, "a", digest.FromString("alone")); err != nil || len(found) != 0 {
		t.Errorf("referrers of what has none: %+v, %v", found, err)
	}
}
