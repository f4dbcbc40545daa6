package remote_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"ferry/internal/oci"
	"ferry/internal/remote"
)

// paged returns a client of a registry that lists these pages of tags. link makes the
// Link header of a page from the query of the next page.
func paged(t *testing.T, link func(query string) string, pages ...string) *remote.Registry {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page, _ := strconv.Atoi(r.URL.Query().Get("page"))
		if page+1 < len(pages) {
			w.Header().Set("Link", link("page="+strconv.Itoa(page+1)))
		}
		fmt.Fprint(w, pages[page])
	}))
	t.Cleanup(s.Close)
	return client(t, s.URL, remote.Options{})
}

func nextLink(query string) string { return "</v2/a/tags/list?" + query + `>; rel="next"` }

func TestTagsOfEveryPageAreListed(t *testing.T) {
	fiveTags := []string{`{"name":"a","tags":["v1","v2"]}`, `{"tags":["v3","v4","v2"]}`, `{"tags":["v5"],"name":"a"}`}
	for name, test := range map[string]struct {
		link  func(query string) string
		pages []string
	}{
		"as usual": {nextLink, fiveTags},
		"another host": {func(q string) string { return "<https://elsewhere.example/x?" + q + ">; rel=next" },
			fiveTags},
		"another parameter": {func(q string) string { return "<x?" + q + `>; type="application/json"; rel="next"` },
			fiveTags},
		"several links": {func(q string) string {
			return `<x?page=0>; rel="first", <x?` + q + `>; rel="next last"`
		}, fiveTags},
		"an empty page": {nextLink,
			[]string{fiveTags[0], `{"tags":[]}`, `{"tags":null}`, fiveTags[1], fiveTags[2]}},
		"an empty last page": {nextLink, append(fiveTags[:3:3], `{"name":"a","tags":null}`)},
		"other members": {nextLink, []string{
			`{"child":[],"manifest":{"sha256:1":{"tag":["x"],"n":[{"tags":["y"]}]}},"tags":["v1","v2"]}`, fiveTags[1],
			fiveTags[2]}},
	} {
		t.Run(name, func(t *testing.T) {
			tags, err := paged(t, test.link, test.pages...).Tags(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(remote.TagList{Tags: []string{"v1", "v2", "v3", "v4", "v5"}}, tags); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestIncompleteTagListIsAnError(t *testing.T) {
	page := `{"name":"a","tags":["v1","v2"]}`
	bare := func(q string) string { return "/v2/a/tags/list?" + q + `; rel="next"` }
	for name, r := range map[string]*remote.Registry{
		"a link without brackets": paged(t, bare, page, page),
		"a link without a query": paged(t, func(string) string { return `</v2/a/tags/2>; rel="next"` }, page,
			page),
		"a page that is cut":          paged(t, nextLink, page, page[:20]),
		"a page that has no tags":     paged(t, nextLink, page, `{"errors":[{"code":"UNKNOWN"}]}`),
		"HTML":                        paged(t, nextLink, page, `<!DOCTYPE html>`),
		"a list instead of an object": paged(t, nextLink, page, `["v3"]`),
		"another kind of tags":        paged(t, nextLink, page, `{"tags":{"v3":1}}`),
		"another kind of tag":         paged(t, nextLink, page, `{"tags":[{"name":"v3"}]}`),
	} {
		t.Run(name, func(t *testing.T) {
			if tags, err := r.Tags(t.Context(), "a"); err == nil || len(tags.Tags) > 0 {
				t.Errorf("%v, %v", tags, err)
			}
		})
	}
}

func TestInvalidTagNamesAreNotListed(t *testing.T) {
	r := paged(t, nextLink, `{"tags":["v1","a\u0001b","","v2","`+strings.Repeat("x", 1000)+`","../v3"]}`)
	tags, err := r.Tags(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(remote.TagList{
		Tags: []string{"v1", "v2"}, Invalid: []string{"a b", "", strings.Repeat("x", 300), "../v3"},
	}, tags); diff != "" {
		t.Error(diff)
	}
}

func TestEndlessTagListIsAnError(t *testing.T) {
	for _, link := range []string{`</v2/a/tags/list?n=1000>; rel="next"`, `</v2/a/tags/list?last=v1>; rel="next"`} {
		r := answering(t, http.StatusOK, http.Header{"Link": {link}}, `{"tags":["v1"]}`)
		if _, err := r.Tags(t.Context(), "a"); err == nil {
			t.Errorf("Link %s: no error", link)
		}
	}
	back := paged(t, func(q string) string {
		if q == "page=3" {
			q = "page=1"
		}
		return nextLink(q)
	}, `{"tags":["1"]}`, `{"tags":["2"]}`, `{"tags":["3"]}`, `{"tags":["4"]}`)
	if _, err := back.Tags(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), "an earlier page") {
		t.Errorf("a loop: %v", err)
	}
	for _, page := range []string{`{"tags":[]}`, `{"tags":["v1"]}`} {
		pages := 0
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			pages++
			w.Header().Set("Link", nextLink("page="+strconv.Itoa(pages)))
			fmt.Fprint(w, page)
		}))
		t.Cleanup(s.Close)
		if _, err := client(t, s.URL, remote.Options{}).Tags(t.Context(), "a"); err == nil || pages > 200 {
			t.Errorf("%d pages of %s: %v", pages, page, err)
		}
	}
}

// repeated writes begin, and then again over and over, up to size bytes.
func repeated(w io.Writer, begin, again string, size int) {
	fmt.Fprint(w, begin)
	piece := []byte(strings.Repeat(again, 1<<16/len(again)))
	for sent := 0; sent < size; sent += len(piece) {
		if _, err := w.Write(piece); err != nil {
			return
		}
	}
}

func TestJunkPageTakesLittleMemory(t *testing.T) {
	for name, test := range map[string]struct{ begin, again string }{
		"one tag":          {`{"tags":["`, "a"},
		"a tag of escapes": {`{"tags":["`, `\u0001`},
		"empty tags":       {`{"tags":[`, `"",`},
		"nulls":            {`{"tags":[`, `null,`},
		"objects":          {`{"tags":[`, `{},`},
		"a tag's lists":    {`{"tags":[`, `[`},
		"other lists":      {`{"junk":`, `[`},
		"other members":    {`{`, `"junk":[],`},
		"spaces":           {`{"tags":[`, " "},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				repeated(w, test.begin, test.again, 33<<20)
			}))
			t.Cleanup(s.Close)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := client(t, s.URL, remote.Options{}).Tags(t.Context(), "a")
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Error("no error")
			}
			if after.HeapSys > before.HeapSys+48<<20 {
				t.Errorf("the heap grew from %d to %d MiB", before.HeapSys>>20, after.HeapSys>>20)
			}
		})
	}
}

func TestReferrersOfEveryPageAreListed(t *testing.T) {
	d, first, second := digest.FromString("subject"), digest.FromString("first"), digest.FromString("second")
	entry := `{"manifests":[{"digest":"%s","annotations":{"a":"` + strings.Repeat("x",
		100<<10) + `"}},{"digest":"junk"}]}`
	r := paged(t, nextLink, fmt.Sprintf(entry, first), fmt.Sprintf(entry, second))
	found, err := r.Referrers(t.Context(), "a", d)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(remote.Referrers{Digests: []digest.Digest{first, second}, Listed: true}, found); diff != "" {
		t.Error(diff)
	}
}

func TestReferrersAreFoundByEndpointAndByTag(t *testing.T) {
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
	found, err := r.Referrers(ctx, "a", index.Digest)
	if err != nil || !found.Listed || len(found.Digests) != 1 || found.Digests[0] != signature.Digest {
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
	found, err = old.Referrers(ctx, "a", index.Digest)
	if err != nil || found.Listed || found.Problem != nil ||
		len(found.Digests) != 1 || found.Digests[0] != signature.Digest {
		t.Errorf("referrers by tag: %+v, %v", found, err)
	}
	if found, err := old.Referrers(ctx, "a", digest.FromString("alone")); err != nil || len(found.Digests) != 0 {
		t.Errorf("referrers of a manifest without any: %+v, %v", found, err)
	}
}
