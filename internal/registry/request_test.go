package registry

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/auth"
	"ferry/internal/oci"
)

const (
	sha256 = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	sha512 = "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce" +
		"47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e"
)

func TestPathsAreParsedFromTheRight(t *testing.T) {
	for _, c := range []struct {
		method, path string
		form         string
		repository   string
		reference    string
	}{
		{"GET", "/v2", "/v2/", "", ""},
		{"GET", "/v2/", "/v2/", "", ""},
		{"HEAD", "/v2/", "/v2/", "", ""},
		{"GET", "/v2/_catalog", "/v2/_catalog", "", ""},
		{"GET", "/v2/a/blobs/" + sha256, "/v2/<name>/blobs/<digest>", "a", sha256},
		{"HEAD", "/v2/a/b/c/blobs/" + sha512, "/v2/<name>/blobs/<digest>", "a/b/c", sha512},
		{"DELETE", "/v2/a/blobs/" + sha256, "/v2/<name>/blobs/<digest>", "a", sha256},
		{"GET", "/v2/a/manifests/v1", "/v2/<name>/manifests/<reference>", "a", "v1"},
		{"HEAD", "/v2/a/manifests/" + sha256, "/v2/<name>/manifests/<reference>", "a", sha256},
		{"PUT", "/v2/a/manifests/v1", "/v2/<name>/manifests/<reference>", "a", "v1"},
		{"DELETE", "/v2/a/manifests/v1", "/v2/<name>/manifests/<reference>", "a", "v1"},
		{"POST", "/v2/a/blobs/uploads/", "/v2/<name>/blobs/uploads/", "a", ""},
		{"POST", "/v2/a/blobs/uploads", "/v2/<name>/blobs/uploads/", "a", ""},
		{"GET", "/v2/a/blobs/uploads/x", "/v2/<name>/blobs/uploads/<upload>", "a", "x"},
		{"PATCH", "/v2/a/blobs/uploads/x", "/v2/<name>/blobs/uploads/<upload>", "a", "x"},
		{"PUT", "/v2/a/blobs/uploads/x", "/v2/<name>/blobs/uploads/<upload>", "a", "x"},
		{"DELETE", "/v2/a/blobs/uploads/x", "/v2/<name>/blobs/uploads/<upload>", "a", "x"},
		{"GET", "/v2/a/tags/list", "/v2/<name>/tags/list", "a", ""},
		{"GET", "/v2/a/referrers/" + sha256, "/v2/<name>/referrers/<digest>", "a", sha256},
		// Fixed words of the API may be parts of a repository name.
		{"GET", "/v2/manifests/manifests/latest", "/v2/<name>/manifests/<reference>", "manifests", "latest"},
		{"GET", "/v2/a/blobs/uploads/manifests/v1", "/v2/<name>/manifests/<reference>", "a/blobs/uploads", "v1"},
		{"GET", "/v2/a/tags/list/tags/list", "/v2/<name>/tags/list", "a/tags/list", ""},
		{"POST", "/v2/blobs/uploads/blobs/uploads/", "/v2/<name>/blobs/uploads/", "blobs/uploads", ""},
		{"GET", "/v2/a/manifests/list", "/v2/<name>/manifests/<reference>", "a", "list"},

		{"GET", "/acr/v1/_catalog", "/v2/_catalog", "", ""},
		{"GET", "/acr/v1/a/b", "/acr/v1/<name>", "a/b", ""},
		{"PATCH", "/acr/v1/a", "/acr/v1/<name>", "a", ""},
		{"DELETE", "/acr/v1/a", "/acr/v1/<name>", "a", ""},
		{"GET", "/acr/v1/a/_tags", "/acr/v1/<name>/_tags", "a", ""},
		{"GET", "/acr/v1/a/_tags/v1", "/acr/v1/<name>/_tags/<tag>", "a", "v1"},
		{"PATCH", "/acr/v1/a/_tags/v1", "/acr/v1/<name>/_tags/<tag>", "a", "v1"},
		{"DELETE", "/acr/v1/a/_tags/v1", "/acr/v1/<name>/_tags/<tag>", "a", "v1"},
		{"GET", "/acr/v1/a/_manifests", "/acr/v1/<name>/_manifests", "a", ""},
		{"GET", "/acr/v1/a/_manifests/" + sha256, "/acr/v1/<name>/_manifests/<digest>", "a", sha256},
		{"PATCH", "/acr/v1/a/_manifests/" + sha256, "/acr/v1/<name>/_manifests/<digest>", "a", sha256},
		{"DELETE", "/acr/v1/a/_manifests/" + sha256, "/acr/v1/<name>/_manifests/<digest>", "a", sha256},
	} {
		q, err := parse(&http.Request{Method: c.method, URL: &url.URL{Path: c.path}})
		if err != nil {
			t.Errorf("%s %s: %v", c.method, c.path, err)
			continue
		}
		want := endpoint{strings.Replace(c.method, "HEAD", "GET", 1), c.form}
		if q.endpoint != want || q.repository != c.repository || q.reference != c.reference {
			t.Errorf("%s %s: %v of %q, reference %q", c.method, c.path, q.endpoint, q.repository, q.reference)
		}
	}
}

func TestUnknownPathHasTheSpecifiedError(t *testing.T) {
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
		// A path without a repository name is invalid.
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

func TestEveryWriteNeedsAnAction(t *testing.T) {
	// A read-only registry must refuse every request that changes something, and each
	// such request needs an action.
	open := []string{"/v2/", "/v2/_catalog"}
	for at, r := range routes {
		changes := slices.ContainsFunc(r.need, func(a auth.Action) bool {
			return a == auth.ContentWrite || a == auth.ContentDelete || a == auth.MetadataWrite
		})
		if changes != r.write || changes == (at.method == "GET") && !strings.Contains(at.path, "/uploads/") {
			t.Errorf("%v: needs %v, write %v", at, r.need, r.write)
		}
		if len(r.need) == 0 && !slices.Contains(open, at.path) {
			t.Errorf("%v needs no action", at)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, path := range []string{"/v2/", "/v2/a/b/manifests/v1", "/v2/a/blobs/" + sha256, "/v2/a/blobs/uploads/x",
		"/v2/a/tags/list", "/acr/v1/a/_tags/v1", "/acr/v1/a/_manifests/" + sha256} {
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
		var need []auth.Action
		for _, a := range q.need {
			need = append(need, a.Action)
			if a.Repository == "" || oci.CheckRepository(a.Repository) != nil {
				t.Fatalf("%q: access to %q", path, a.Repository)
			}
		}
		if diff := cmp.Diff(q.route.need, need); diff != "" {
			t.Fatalf("%q: %s", path, diff)
		}
		if !strings.Contains(path, q.repository) {
			t.Fatalf("%q: repository %q", path, q.repository)
		}
	})
}
