package registry

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/auth"
	"ferry/internal/oci"
)

const (
	sha256 = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	sha512 = "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e"
)

func TestEachEndPointIsFoundFromTheRight(t *testing.T) {
	for _, c := range []struct {
		method, path string
		kind         kind
		repository   string
		reference    string
	}{
		{"GET", "/v2", kindPing, "", ""},
		{"GET", "/v2/", kindPing, "", ""},
		{"HEAD", "/v2/", kindPing, "", ""},
		{"GET", "/v2/_catalog", kindCatalog, "", ""},
		{"GET", "/v2/a/blobs/" + sha256, kindBlobGet, "a", sha256},
		{"HEAD", "/v2/a/b/c/blobs/" + sha512, kindBlobGet, "a/b/c", sha512},
		{"DELETE", "/v2/a/blobs/" + sha256, kindBlobDelete, "a", sha256},
		{"GET", "/v2/a/manifests/v1", kindManifestGet, "a", "v1"},
		{"HEAD", "/v2/a/manifests/" + sha256, kindManifestGet, "a", sha256},
		{"PUT", "/v2/a/manifests/v1", kindManifestPut, "a", "v1"},
		{"DELETE", "/v2/a/manifests/v1", kindManifestDelete, "a", "v1"},
		{"POST", "/v2/a/blobs/uploads/", kindUploadStart, "a", ""},
		{"POST", "/v2/a/blobs/uploads", kindUploadStart, "a", ""},
		{"GET", "/v2/a/blobs/uploads/x", kindUploadGet, "a", ""},
		{"PATCH", "/v2/a/blobs/uploads/x", kindUploadPatch, "a", ""},
		{"PUT", "/v2/a/blobs/uploads/x", kindUploadPut, "a", ""},
		{"DELETE", "/v2/a/blobs/uploads/x", kindUploadDelete, "a", ""},
		{"GET", "/v2/a/tags/list", kindTags, "a", ""},
		{"GET", "/v2/a/referrers/" + sha256, kindReferrers, "a", sha256},
		// Words of the API may be parts of a name.
		{"GET", "/v2/manifests/manifests/latest", kindManifestGet, "manifests", "latest"},
		{"GET", "/v2/a/blobs/uploads/manifests/v1", kindManifestGet, "a/blobs/uploads", "v1"},
		{"GET", "/v2/a/tags/list/tags/list", kindTags, "a/tags/list", ""},
		{"POST", "/v2/blobs/uploads/blobs/uploads/", kindUploadStart, "blobs/uploads", ""},
		{"GET", "/v2/a/manifests/list", kindManifestGet, "a", "list"},

		{"GET", "/acr/v1/_catalog", kindCatalog, "", ""},
		{"GET", "/acr/v1/a/b", kindRepositoryGet, "a/b", ""},
		{"PATCH", "/acr/v1/a", kindRepositoryPatch, "a", ""},
		{"DELETE", "/acr/v1/a", kindRepositoryDelete, "a", ""},
		{"GET", "/acr/v1/a/_tags", kindTagList, "a", ""},
		{"GET", "/acr/v1/a/_tags/v1", kindTagGet, "a", "v1"},
		{"PATCH", "/acr/v1/a/_tags/v1", kindTagPatch, "a", "v1"},
		{"DELETE", "/acr/v1/a/_tags/v1", kindTagDelete, "a", "v1"},
		{"GET", "/acr/v1/a/_manifests", kindManifestList, "a", ""},
		{"GET", "/acr/v1/a/_manifests/" + sha256, kindAttributesGet, "a", sha256},
		{"PATCH", "/acr/v1/a/_manifests/" + sha256, kindAttributesPatch, "a", sha256},
		{"DELETE", "/acr/v1/a/_manifests/" + sha256, kindAttributesDelete, "a", sha256},
	} {
		q, err := parse(&http.Request{Method: c.method, URL: &url.URL{Path: c.path}})
		if err != nil {
			t.Errorf("%s %s: %v", c.method, c.path, err)
			continue
		}
		if q.kind != c.kind || q.repository != c.repository || q.reference != c.reference {
			t.Errorf("%s %s: kind %d of %q, reference %q", c.method, c.path, q.kind, q.repository, q.reference)
		}
	}
}

func TestWhatIsNoEndPointHasTheSpecificationsError(t *testing.T) {
	for _, c := range []struct {
		method, path string
		status       int
		code         oci.Code
	}{
		{"GET", "/v2/a", 404, "NOT_FOUND"},
		{"GET", "/v2/a/tags", 404, "NOT_FOUND"},
		{"GET", "/v2/a/tags/", 404, "NOT_FOUND"},
		{"GET", "/v2/a/tags/all", 404, "NOT_FOUND"},
		{"GET", "/v2//", 404, "NOT_FOUND"},
		{"GET", "/v2/a/layers/" + sha256, 404, "NOT_FOUND"},
		{"GET", "/v2/a/manifests/v1/", 404, "NOT_FOUND"},
		{"POST", "/v2/a/uploads/", 404, "NOT_FOUND"},
		{"POST", "/v2/uploads/", 404, "NOT_FOUND"},
		{"GET", "/v1/", 404, "NOT_FOUND"},
		{"GET", "", 404, "NOT_FOUND"},
		{"POST", "/v2/", 405, "UNSUPPORTED"},
		{"POST", "/v2/a/tags/list", 405, "UNSUPPORTED"},
		{"PATCH", "/v2/a/manifests/v1", 405, "UNSUPPORTED"},
		{"PUT", "/v2/a/blobs/" + sha256, 405, "UNSUPPORTED"},
		{"GET", "/v2/a/blobs/uploads/", 405, "UNSUPPORTED"},
		{"TRACE", "/v2/a/manifests/v1", 405, "UNSUPPORTED"},
		{"get", "/v2/a/manifests/v1", 405, "UNSUPPORTED"},
		{"PUT", "/acr/v1/a", 405, "UNSUPPORTED"},
		{"GET", "/v2/A/tags/list", 400, "NAME_INVALID"},
		{"GET", "/v2/a//b/tags/list", 400, "NAME_INVALID"},
		{"GET", "/v2/a/../b/tags/list", 400, "NAME_INVALID"},
		{"GET", "/v2/a /tags/list", 400, "NAME_INVALID"},
		{"GET", "/v2/" + strings.Repeat("a", 256) + "/tags/list", 400, "NAME_INVALID"},
		{"GET", "/v2/a\x00b/tags/list", 400, "NAME_INVALID"},
		{"GET", "/v2/a/blobs/sha256:abc", 400, "DIGEST_INVALID"},
		{"GET", "/v2/a/blobs/" + strings.ToUpper(sha256), 400, "DIGEST_INVALID"},
		{"GET", "/v2/a/blobs/md5:d41d8cd98f00b204e9800998ecf8427e", 400, "DIGEST_INVALID"},
		{"GET", "/v2/a/blobs/", 400, "DIGEST_INVALID"},
		{"DELETE", "/v2/a/blobs/latest", 400, "DIGEST_INVALID"},
		{"GET", "/v2/a/manifests/sha256:abc", 400, "DIGEST_INVALID"},
		{"GET", "/v2/a/referrers/latest", 400, "DIGEST_INVALID"},
		{"GET", "/v2/a/manifests/.hidden", 404, "MANIFEST_UNKNOWN"},
		{"GET", "/v2/a/manifests/", 404, "MANIFEST_UNKNOWN"},
		{"PUT", "/v2/a/manifests/.hidden", 400, "MANIFEST_INVALID"},
		{"PUT", "/v2/a/manifests/" + strings.Repeat("a", 129), 400, "MANIFEST_INVALID"},
		{"DELETE", "/v2/a/manifests/a b", 400, "MANIFEST_INVALID"},
		{"GET", "/acr/v1/a/_tags/.x", 400, "TAG_INVALID"},
		{"GET", "/acr/v1/a/_manifests/v1", 400, "DIGEST_INVALID"},
		// No name at all must never be less than a name.
		{"GET", "/v2/manifests/v1", 400, "NAME_INVALID"},
		{"PUT", "/v2/manifests/v1", 400, "NAME_INVALID"},
		{"GET", "/v2/tags/list", 400, "NAME_INVALID"},
		{"GET", "/v2/blobs/" + sha256, 400, "NAME_INVALID"},
		{"POST", "/v2/blobs/uploads", 400, "NAME_INVALID"},
		{"DELETE", "/acr/v1/", 400, "NAME_INVALID"},
		{"DELETE", "/acr/v1/_tags/v1", 400, "NAME_INVALID"},
		{"GET", "/acr/v1/_tags", 400, "NAME_INVALID"},
	} {
		_, err := parse(&http.Request{Method: c.method, URL: &url.URL{Path: c.path}})
		e := oci.AsError(err)
		if e == nil {
			t.Errorf("%s %s: error %v", c.method, c.path, err)
		} else if e.Status != c.status || e.Code != c.code {
			t.Errorf("%s %s: %d %s, want %d %s", c.method, c.path, e.Status, e, c.status, c.code)
		}
	}
}

func TestEveryKindHasARule(t *testing.T) {
	for k := kindPing; k <= kindAttributesDelete; k++ {
		if int(k) >= len(rules) || rules[k].handle == nil {
			t.Errorf("kind %d has no handler", k)
		}
	}
	// What changes something is refused by a registry that may not be
	// written to, and nobody may do it without a right.
	open := map[kind]bool{kindPing: true, kindCatalog: true}
	for k, r := range rules {
		changes := false
		for _, a := range r.need {
			changes = changes || a == auth.ContentWrite || a == auth.ContentDelete || a == auth.MetadataWrite
		}
		if changes != r.write {
			t.Errorf("kind %d: needs %v, write %v", k, r.need, r.write)
		}
		if len(r.need) == 0 && !open[kind(k)] {
			t.Errorf("kind %d needs no right", k)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, path := range []string{"/v2/", "/v2/a/b/manifests/v1", "/v2/a/blobs/" + sha256, "/v2/a/blobs/uploads/x", "/v2/a/tags/list", "/acr/v1/a/_tags/v1", "/acr/v1/a/_manifests/" + sha256} {
		f.Add("GET", path)
		f.Add("DELETE", path)
	}
	f.Fuzz(func(t *testing.T, method, path string) {
		q, err := parse(&http.Request{Method: method, URL: &url.URL{Path: path}})
		if err != nil {
			if oci.AsError(err) == nil {
				t.Fatalf("%q: error %v", path, err)
			}
			return
		}
		rule := rules[q.kind]
		var need []auth.Action
		for _, a := range q.need {
			need = append(need, a.Action)
			if a.Repository == "" || oci.CheckRepository(a.Repository) != nil {
				t.Fatalf("%q: access to %q", path, a.Repository)
			}
		}
		if diff := cmp.Diff(rule.need, need); diff != "" {
			t.Fatalf("%q: %s", path, diff)
		}
		if !strings.Contains(path, q.repository) {
			t.Fatalf("%q: repository %q", path, q.repository)
		}
	})
}
