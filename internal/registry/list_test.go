package registry_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/oci"
	"ferry/internal/storage/storagetest"
)

// pages follows the Link headers from path on, and returns the names or digests that
// each page has under key.
func (s *instance) pages(path, key string) (all [][]string) {
	s.t.Helper()
	for range 20 {
		a := s.do("GET", path, "").want(s.t, 200)
		var body map[string]any
		a.json(s.t, &body)
		names := []string{}
		for _, v := range body[key].([]any) {
			if object, ok := v.(map[string]any); ok {
				v = object["name"]
				if v == nil {
					v = object["digest"]
				}
			}
			names = append(names, v.(string))
		}
		all = append(all, names)
		link := a.header.Get("Link")
		if link == "" {
			return all
		}
		target, rel, _ := strings.Cut(strings.TrimPrefix(link, "<"), ">")
		if rel != `; rel="next"` {
			s.t.Fatalf("Link %q", link)
		}
		path = target
	}
	s.t.Fatal("the pages do not end")
	return nil
}

func TestTagsArePagedByName(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		s := newInstanceOn(t, db, directory{})
		// In byte order, on both databases.
		tags := []string{"1.10", "1.9", "B", "_x", "a", "a-b", "a.b", "aa"}
		for _, tag := range tags {
			s.push("a/b", tag, "x")
		}
		for n, want := range map[string][][]string{
			"":                {tags},
			"?n=3":            {tags[:3], tags[3:6], tags[6:]},
			"?n=4":            {tags[:4], tags[4:]},
			"?n=8":            {tags},
			"?n=0":            {{}},
			"?n=999999999":    {tags},
			"?n=2&last=a-b":   {tags[6:]},
			"?last=zzz":       {{}},
			"?last=%00%27;--": {tags},
		} {
			if diff := cmp.Diff(want, s.pages("/v2/a/b/tags/list"+n, "tags")); diff != "" {
				t.Errorf("%s: %s", n, diff)
			}
		}
		for _, n := range []string{"-1", "x", "1.5", "99999999999999999999", "%20"} {
			s.do("GET", "/v2/a/b/tags/list?n="+n, "").want(t, 400, "PAGINATION_NUMBER_INVALID")
		}
	})
}

func TestCatalogShowsOnlyReadableRepositories(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		s := newInstanceOn(t, db, directory{
			"team":   {"repositories/team/*/content/read"},
			"lister": {"repositories/other/metadata/read"},
			"pusher": {"repositories/other/content/write"},
			"nobody": nil,
		})
		for _, repo := range []string{"other", "team/a", "team/b", "team/c", "teamx"} {
			s.pushBlob(repo, "x")
		}
		for user, want := range map[string][][]string{
			"all":    {{"other", "team/a"}, {"team/b", "team/c"}, {"teamx"}},
			"team":   {{"team/a", "team/b"}, {"team/c"}},
			"lister": {{"other"}}, "pusher": {{}}, "nobody": {{}},
		} {
			for _, path := range []string{"/v2/_catalog", "/acr/v1/_catalog"} {
				got := s.as(user).pages(path+"?n=2", "repositories")
				if last := len(got) - 1; last > 0 && len(got[last]) == 0 {
					got = got[:last] // the last page may be empty
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s: %s", user, diff)
				}
			}
		}
	})
}

func TestReferrersAreFilteredAndPaged(t *testing.T) {
	s := newInstance(t)
	_, subject := s.push("a", "v1", "hello")
	config := digest.FromString("{}")
	refer := func(artifactType, note string) string {
		text := string(storagetest.Manifest{
			ArtifactType: artifactType,
			Config:       &oci.Descriptor{MediaType: "application/vnd.oci.empty.v1+json", Digest: config, Size: 2},
			Subject:      new(storagetest.Reference(subject)),
			Annotations:  map[string]string{"note": note, "short": "x"},
		}.Payload())
		d := digest.FromString(text)
		a := s.do("PUT", "/v2/a/manifests/"+d.String(), text, "Content-Type: "+oci.MediaTypeImageManifest).want(t, 201)
		if a.header.Get("OCI-Subject") != subject.String() {
			t.Errorf("OCI-Subject %q", a.header.Get("OCI-Subject"))
		}
		return d.String()
	}
	sbom := refer("application/sbom", "one")
	refer("application/signature", "two")
	path := "/v2/a/referrers/" + subject.String()

	a := s.do("GET", path+"?artifactType=application/sbom", "").want(t, 200)
	type listed struct {
		SchemaVersion int
		MediaType     string
		Manifests     []oci.Descriptor
	}
	var index listed
	a.json(t, &index)
	if a.header.Get("Content-Type") != oci.MediaTypeImageIndex ||
		a.header.Get("OCI-Filters-Applied") != "artifactType" {
		t.Errorf("headers %v", a.header)
	}
	if index.SchemaVersion != 2 || index.MediaType != oci.MediaTypeImageIndex || len(index.Manifests) != 1 {
		t.Fatalf("index %s", a.body)
	}
	if m := index.Manifests[0]; m.Digest.String() != sbom || m.ArtifactType != "application/sbom" ||
		m.Annotations["note"] != "one" || m.Size == 0 {
		t.Errorf("descriptor %+v", m)
	}
	all := s.pages(path, "manifests")
	if len(all) != 1 || len(all[0]) != 2 {
		t.Errorf("referrers %v", all)
	}
	if a := s.do("GET", path, ""); a.header.Get("OCI-Filters-Applied") != "" {
		t.Error("a filter was applied without a request")
	}
	paged := s.pages(path+"?n=1", "manifests")
	if len(paged) != 2 || paged[0][0] == paged[1][0] {
		t.Errorf("pages %v", paged)
	}
	// If annotations are too long, a list has only the shortest.
	refer("application/big", strings.Repeat("x", oci.MaxManifestSize*2/3))
	index = listed{}
	s.do("GET", path+"?artifactType=application/big", "").want(t, 200).json(t, &index)
	if m := index.Manifests; len(m) != 1 || len(m[0].Annotations) != 1 || m[0].Annotations["short"] != "x" {
		t.Errorf("referrers with long annotations: %d, %v", len(m), m[0].Annotations)
	}
	// An absent subject has an empty list of referrers; that is not an error.
	if a := s.do("GET", "/v2/a/referrers/"+digest.FromString("absent").String(), "").want(t,
		200); !strings.Contains(a.body, `"manifests":[]`) {
		t.Error(a.body)
	}
}

func TestReferrersPageReadsOnlyItsOwnManifests(t *testing.T) {
	s := newInstance(t)
	_, subject := s.push("a", "v1", "hello")
	config := digest.FromString("{}")
	annotations := map[string]string{}
	for i := range 100 {
		annotations[fmt.Sprint("key", i)] = strings.Repeat("x", 40<<10)
	}
	annotations["short"] = "x"
	const referrers = 250
	for i := range referrers {
		if i == 8 { // the annotations of the others just fit
			annotations = map[string]string{"note": strings.Repeat("x", 15<<10)}
		}
		annotations["number"] = fmt.Sprint(i)
		text := string(storagetest.Manifest{
			Config:  &oci.Descriptor{MediaType: "application/vnd.oci.empty.v1+json", Digest: config, Size: 2},
			Subject: new(storagetest.Reference(subject)), Annotations: annotations,
		}.Payload())
		s.do("PUT", "/v2/a/manifests/"+digest.FromString(text).String(), text,
			"Content-Type: "+oci.MediaTypeImageManifest).want(t, 201)
	}
	path := "/v2/a/referrers/" + subject.String()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s.do("GET", path+"?n=1", "").want(t, 200)
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 2<<20 {
		t.Errorf("a page with one referrer takes %d MiB", used>>20)
	}
	n := 0
	for _, page := range s.pages(path, "manifests") {
		n += len(page)
	}
	if n != referrers {
		t.Errorf("%d referrers are listed", n)
	}
}
