package registry_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
)

func TestInvalidManifestIsRefusedAndChangesNothing(t *testing.T) {
	s := newInstance(t)
	good, d := s.push("a", "v1", "hello")
	config := digest.FromString("{}")
	absent := digest.FromString("absent")
	index := func(children string) string {
		return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, oci.MediaTypeImageIndex, children)
	}
	for _, c := range []struct {
		name, reference, mediaType, text string
		status                           int
		code                             string
	}{
		{"nothing", "v1", oci.MediaTypeImageManifest, "", 400, "MANIFEST_INVALID"},
		{"no JSON", "v1", oci.MediaTypeImageManifest, "hello", 400, "MANIFEST_INVALID"},
		{"half of it", "v1", oci.MediaTypeImageManifest, good[:len(good)/2], 400, "MANIFEST_INVALID"},
		{"two of it", "v1", oci.MediaTypeImageManifest, good + good, 400, "MANIFEST_INVALID"},
		{"null", "v1", oci.MediaTypeImageManifest, "null", 400, "MANIFEST_INVALID"},
		{"an array", "v1", oci.MediaTypeImageManifest, "[]", 400, "MANIFEST_INVALID"},
		{"another media type", "v1", oci.MediaTypeDockerManifest, good, 400, "MANIFEST_INVALID"},
		{"an unknown media type", "v1", "text/plain", good, 400, "MANIFEST_INVALID"},
		{"a malformed media type", "v1", "///", good, 400, "MANIFEST_INVALID"},
		{"no media type", "v1", "", strings.Replace(good, `"mediaType":"`+oci.MediaTypeImageManifest+`",`, "", 1), 400,
			"MANIFEST_INVALID"},
		{"schema 1", "v1", "application/vnd.docker.distribution.manifest.v1+json", `{"schemaVersion":1}`, 400,
			"MANIFEST_INVALID"},
		{"no config", "v1", oci.MediaTypeImageManifest, `{"schemaVersion":2}`, 400, "MANIFEST_INVALID"},
		{"a malformed digest", "v1", oci.MediaTypeImageManifest, image("sha256:x"), 400, "MANIFEST_INVALID"},
		{"a path as a digest", "v1", oci.MediaTypeImageManifest, image("sha256:../../../../etc/passwd"), 400,
			"MANIFEST_INVALID"},
		{"a negative size", "v1", oci.MediaTypeImageManifest, strings.Replace(good, `"size":5`, `"size":-5`, 1), 400,
			"MANIFEST_INVALID"},
		{"a size that is no number", "v1", oci.MediaTypeImageManifest,
			strings.Replace(good, `"size":5`, `"size":"5"`, 1), 400, "MANIFEST_INVALID"},
		{"an image and an index", "v1", oci.MediaTypeImageManifest,
			strings.Replace(good, `"layers"`, `"manifests":[],"layers"`, 1), 400, "MANIFEST_INVALID"},
		{"an index with layers", "v1", oci.MediaTypeImageIndex, `{"schemaVersion":2,"manifests":[],"layers":[]}`, 400,
			"MANIFEST_INVALID"},
		{"another digest", absent.String(), oci.MediaTypeImageManifest, good, 400, "DIGEST_INVALID"},
		{"an absent layer", "v1", oci.MediaTypeImageManifest, image(config, absent), 404, "MANIFEST_BLOB_UNKNOWN"},
		{"an absent config", "v1", oci.MediaTypeImageManifest, image(absent), 404, "MANIFEST_BLOB_UNKNOWN"},
		{"an absent child", "v1", oci.MediaTypeImageIndex, index(fmt.Sprintf(`{"digest":%q,"size":1}`, absent)), 404,
			"MANIFEST_BLOB_UNKNOWN"},
		{"nested too deep", "v1", oci.MediaTypeImageManifest, strings.Repeat("[", 1<<20), 400, "MANIFEST_INVALID"},
		{"nested too deep below what is known", "v1", oci.MediaTypeImageManifest,
			`{"x":` + strings.Repeat(`{"x":`, 1<<19), 400, "MANIFEST_INVALID"},
		{"too many layers", "v1", oci.MediaTypeImageManifest,
			`{"schemaVersion":2,"layers":[` + strings.Repeat("{},", 1<<20) + `{}]}`, 400, "MANIFEST_INVALID"},
		{"too many children", "v1", oci.MediaTypeImageIndex, index(strings.Repeat("{},", 1<<20) + "{}"), 400,
			"MANIFEST_INVALID"},
		{"too large", "v1", oci.MediaTypeImageManifest, good + strings.Repeat(" ", oci.MaxManifestSize), 413,
			"SIZE_INVALID"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.t = t
			s.do("PUT", "/v2/a/manifests/"+c.reference, c.text, "Content-Type: "+c.mediaType).want(t, c.status, c.code)
		})
	}
	s.t = t
	s.send("PUT", "/v2/a/manifests/v1",
		io.MultiReader(strings.NewReader(good), strings.NewReader(strings.Repeat(" ", oci.MaxManifestSize))),
		"Content-Type: "+oci.MediaTypeImageManifest).want(t, 413, "SIZE_INVALID") // of unknown length
	if a := s.do("GET", "/v2/a/manifests/v1", "").want(t, 200); a.body != good ||
		a.header.Get("Docker-Content-Digest") != d.String() {
		t.Errorf("v1 is %q", a.body)
	}
	// A manifest of the maximum size is accepted.
	largest := good + strings.Repeat(" ", oci.MaxManifestSize-len(good))
	s.do("PUT", "/v2/a/manifests/largest", largest, "Content-Type: "+oci.MediaTypeImageManifest).want(t, 201)
	if a := s.do("GET", "/v2/a/manifests/largest", "").want(t, 200); a.body != largest {
		t.Error("the largest manifest is served with other bytes")
	}
}

func TestPushByDigestSetsTheQueryTags(t *testing.T) {
	s := newInstance(t)
	manifest, d := s.push("a", "v1", "hello")
	path := "/v2/a/manifests/" + d.String()
	put := func(query string) answer {
		return s.do("PUT", path+query, manifest, "Content-Type: "+oci.MediaTypeImageManifest)
	}
	a := put("?tag=one&tag=two").want(t, 201)
	if diff := cmp.Diff([]string{"one", "two"}, a.header.Values("OCI-Tag")); diff != "" {
		t.Error(diff)
	}
	put("?tag=three&tag=.bad").want(t, 400, "TAG_INVALID")
	put("?"+strings.Repeat("tag=t&", 11)).want(t, 414, "TAG_INVALID")
	var list struct{ Tags []string }
	s.do("GET", "/v2/a/tags/list", "").want(t, 200).json(t, &list)
	if diff := cmp.Diff([]string{"one", "two", "v1"}, list.Tags); diff != "" {
		t.Error(diff)
	}
}

func TestManifestIsPushedByEitherDigest(t *testing.T) {
	s := newInstance(t)
	s.push("a", "v1", "hello")
	text := image(digest.FromString("{}"), digest.FromString("hello"))
	d := digest.SHA512.FromString(text)
	a := s.do("PUT", "/v2/a/manifests/"+d.String()+"?tag=long", text,
		"Content-Type: "+oci.MediaTypeImageManifest).want(t, 201)
	if a.header.Get("Docker-Content-Digest") != d.String() {
		t.Errorf("headers %v", a.header)
	}
	if a := s.do("GET", "/v2/a/manifests/long", "").want(t, 200); a.header.Get("Docker-Content-Digest") != d.String() {
		t.Errorf("long is %v", a.header)
	}
}

func TestDeleteRemovesOnlyTheNamedReference(t *testing.T) {
	s := newInstance(t)
	manifest, d := s.push("a", "v1", "hello")
	s.do("PUT", "/v2/a/manifests/v2", manifest, "Content-Type: "+oci.MediaTypeImageManifest).want(t, 201)

	s.do("DELETE", "/v2/a/blobs/"+digest.FromString("hello").String(), "").want(t, 403,
		"DENIED") // the manifest needs it
	s.do("DELETE", "/v2/a/manifests/v1", "").want(t, 202) // only the tag
	s.do("GET", "/v2/a/manifests/v1", "").want(t, 404, "MANIFEST_UNKNOWN")
	s.do("GET", "/v2/a/manifests/v2", "").want(t, 200)
	s.do("DELETE", "/v2/a/manifests/"+d.String(), "").want(t, 202) // with all its tags
	s.do("GET", "/v2/a/manifests/v2", "").want(t, 404, "MANIFEST_UNKNOWN")
	s.do("DELETE", "/v2/a/blobs/"+digest.FromString("hello").String(), "").want(t, 202)
}

func TestUnsupportedMethodListsAllowedMethods(t *testing.T) {
	s := newInstance(t)
	for path, allow := range map[string]string{
		"/v2/": "GET, HEAD", "/v2/a/manifests/v1": "DELETE, GET, HEAD, PUT", "/v2/a/blobs/uploads/": "POST",
		"/v2/a/blobs/uploads/x": "DELETE, GET, HEAD, PATCH, PUT", "/acr/v1/a": "DELETE, GET, HEAD, PATCH",
	} {
		a := s.do(http.MethodOptions, path, "").want(t, 405, "UNSUPPORTED")
		if got := a.header.Get("Allow"); got != allow {
			t.Errorf("%s: Allow %q, want %q", path, got, allow)
		}
	}
}
