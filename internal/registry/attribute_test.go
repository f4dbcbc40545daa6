package registry_test

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb/dbtest"
	"ferry/internal/oci"
)

func TestAttributesHaveTheReferenceShape(t *testing.T) {
	s := newInstance(t)
	payload := image(s.pushBlob("a/b", `{"architecture":"arm64","os":"linux"}`), s.pushBlob("a/b", "hello"))
	d := digest.FromString(payload)
	s.do("PUT", "/v2/a/b/manifests/v1", payload, "Content-Type: "+oci.MediaTypeImageManifest).want(t, 201)
	unlocked := map[string]any{"deleteEnabled": true, "writeEnabled": true, "readEnabled": true, "listEnabled": true}
	host := strings.TrimPrefix(s.url, "http://")
	tag := map[string]any{"name": "v1", "digest": d.String(), "signed": false, "changeableAttributes": unlocked}
	manifest := map[string]any{"digest": d.String(), "mediaType": oci.MediaTypeImageManifest, "imageSize": 7.0,
		"artifactType":    "application/vnd.oci.image.config.v1+json",
		"configMediaType": "application/vnd.oci.image.config.v1+json",
		"architecture":    "arm64", "os": "linux",
		"tags": []any{"v1"}, "changeableAttributes": unlocked}
	for path, want := range map[string]map[string]any{
		"/acr/v1/a/b": {"registry": host, "imageName": "a/b", "manifestCount": 1.0,
			"tagCount": 1.0, "changeableAttributes": unlocked},
		"/acr/v1/a/b/_tags":                    {"registry": host, "imageName": "a/b", "tags": []any{tag}},
		"/acr/v1/a/b/_tags/v1":                 {"registry": host, "imageName": "a/b", "tag": tag},
		"/acr/v1/a/b/_manifests":               {"registry": host, "imageName": "a/b", "manifests": []any{manifest}},
		"/acr/v1/a/b/_manifests/" + d.String(): {"registry": host, "imageName": "a/b", "manifest": manifest},
	} {
		var got map[string]any
		s.do("GET", path, "").want(t, 200).json(t, &got)
		if times := takeTimes(got); times == 0 || times%2 != 0 {
			t.Errorf("%s has %d times", path, times)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
	}
}

// takeTimes removes the times from an answer, and returns their number.
func takeTimes(v any) (n int) {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range []string{"createdTime", "lastUpdateTime"} {
			if text, ok := v[key].(string); ok && strings.HasSuffix(text, "Z") {
				delete(v, key)
				n++
			}
		}
		for _, inner := range v {
			n += takeTimes(inner)
		}
	case []any:
		for _, inner := range v {
			n += takeTimes(inner)
		}
	}
	return n
}

func TestTagsAreListedByTime(t *testing.T) {
	s := newInstance(t)
	for _, tag := range []string{"b", "c", "a"} {
		s.push("a", tag, tag)
	}
	_, d := s.push("a", "d", "c") // the same image as c
	for query, want := range map[string][][]string{
		"":                                       {{"a", "b", "c", "d"}},
		"?orderby=none&n=3":                      {{"a", "b", "c"}, {"d"}},
		"?orderby=timeasc":                       {{"b", "c", "a", "d"}},
		"?orderby=timedesc&n=2":                  {{"d", "a"}, {"c", "b"}},
		"?orderby=timedesc&n=0":                  {{}},
		"?digest=" + d.String():                  {{"c", "d"}},
		"?orderby=timedesc&digest=" + d.String(): {{"d", "c"}},
		"?n=1&digest=" + d.String():              {{"c"}, {"d"}},
	} {
		if diff := cmp.Diff(want, s.pages("/acr/v1/a/_tags"+query, "tags")); diff != "" {
			t.Errorf("%s: %s", query, diff)
		}
	}
	s.do("GET", "/acr/v1/a/_tags?orderby=size", "").want(t, 400, "INVALID")
	s.do("GET", "/acr/v1/a/_tags?digest=x", "").want(t, 400, "DIGEST_INVALID")
	s.do("GET", "/acr/v1/a/_tags?orderby=timeasc&last=gone", "").want(t, 400, "INVALID")
	if got := s.pages("/acr/v1/a/_manifests?n=2", "manifests"); len(got) != 2 || len(got[0]) != 2 || len(got[1]) != 1 {
		t.Errorf("manifests %v", got)
	}
	oldest := s.pages("/acr/v1/a/_manifests?orderby=timeasc&n=2", "manifests")
	newest := s.pages("/acr/v1/a/_manifests?orderby=timedesc&n=2", "manifests")
	flat, back := slices.Concat(oldest...), slices.Concat(newest...)
	slices.Reverse(back)
	if diff := cmp.Diff(flat, back); diff != "" || len(flat) != 3 || flat[1] != d.String() {
		t.Errorf("manifests by time: %v, %s", flat, diff)
	}
	gone := digest.FromString("gone").String()
	s.do("GET", "/acr/v1/a/_manifests?orderby=timeasc&last="+gone, "").want(t, 400, "INVALID")
}

func TestLocksPreventChanges(t *testing.T) {
	s := newInstance(t)
	manifest, d := s.push("a", "v1", "hello")
	other := image(digest.FromString("{}"), s.pushBlob("a", "other"))
	put := func(tag, text string) answer {
		return s.do("PUT", "/v2/a/manifests/"+tag, text, "Content-Type: "+oci.MediaTypeImageManifest)
	}
	get := func(ref string) answer { return s.do("GET", "/v2/a/manifests/"+ref, "") }
	lock := func(path, name string, enabled bool) {
		t.Helper()
		var got map[string]any
		s.do("PATCH", path, fmt.Sprintf("{%q:%v}", name, enabled)).want(t, 200).json(t, &got)
		if view, ok := got["tag"].(map[string]any); ok {
			got = view
		} else if view, ok := got["manifest"].(map[string]any); ok {
			got = view
		}
		if got["changeableAttributes"].(map[string]any)[name] != enabled {
			t.Errorf("%s: %v", path, got)
		}
	}
	get("v1").want(t, 200) // it is in the cache now

	tag := "/acr/v1/a/_tags/v1"
	lock(tag, "writeEnabled", false)
	put("v1", other).want(t, 403, "DENIED")
	put("v1", manifest).want(t, 201) // pushing the same manifest again changes nothing
	s.do("DELETE", "/v2/a/manifests/v1", "").want(t, 403, "DENIED")
	s.do("DELETE", tag, "").want(t, 403, "DENIED")
	lock(tag, "writeEnabled", true)
	lock(tag, "readEnabled", false)
	get("v1").want(t, 403, "DENIED")
	get(d.String()).want(t, 200)
	lock(tag, "readEnabled", true)
	lock(tag, "listEnabled", false)
	if got := s.pages("/v2/a/tags/list", "tags"); len(got[0]) != 0 {
		t.Errorf("tags %v", got)
	}
	lock(tag, "listEnabled", true)

	byDigest := "/acr/v1/a/_manifests/" + d.String()
	lock(byDigest, "readEnabled", false)
	get("v1").want(t, 403, "DENIED")
	get(d.String()).want(t, 403, "DENIED")
	s.do("GET", byDigest, "").want(t, 200) // otherwise nobody could see the lock
	lock(byDigest, "readEnabled", true)
	lock(byDigest, "deleteEnabled", false)
	s.do("DELETE", "/v2/a/manifests/"+d.String(), "").want(t, 403, "DENIED")
	s.do("DELETE", byDigest, "").want(t, 403, "DENIED")
	s.do("DELETE", "/acr/v1/a", "").want(t, 403, "DENIED")
	lock(byDigest, "deleteEnabled", true)

	lock("/acr/v1/a", "deleteEnabled", false)
	s.do("DELETE", "/acr/v1/a", "").want(t, 403, "DENIED")
	// The locks of a repository are not shown as those of its manifests.
	if a := s.do("GET", byDigest, "").want(t, 200); strings.Contains(a.body, `Enabled":false`) {
		t.Errorf("manifest %s", a.body)
	}
	lock("/acr/v1/a", "deleteEnabled", true)

	s.do("DELETE", tag, "").want(t, 202)
	get("v1").want(t, 404, "MANIFEST_UNKNOWN")
	get(d.String()).want(t, 200)
	s.do("DELETE", byDigest, "").want(t, 202)
	s.do("DELETE", "/acr/v1/a", "").want(t, 202)
	s.do("GET", "/v2/a/tags/list", "").want(t, 404, "NAME_UNKNOWN")
}

func TestLocksAreRefusedWhereTheParentSetsThem(t *testing.T) {
	s := newInstance(t)
	_, d := s.push("a", "v1", "hello")
	s.lockable = oci.ErrDenied.With("not here")
	for _, path := range []string{"/acr/v1/a", "/acr/v1/a/_tags/v1", "/acr/v1/a/_manifests/" + d.String()} {
		s.do("PATCH", path, `{"readEnabled":false}`).want(t, 403, "DENIED", "not here")
	}
	s.do("DELETE", "/acr/v1/a/_tags/v1", "").want(t, 202) // which is no change of a lock
}

func TestPushToALockedRepositoryIsRefusedEarly(t *testing.T) {
	s := newInstance(t)
	s.push("a", "v1", "hello")
	s.do("PATCH", "/acr/v1/a", `{"writeEnabled":false}`).want(t, 200)
	s.do("POST", "/v2/a/blobs/uploads/", "").want(t, 403, "DENIED")
	s.do("PATCH", "/acr/v1/a", `{"writeEnabled":true}`).want(t, 200)
	s.do("POST", "/v2/a/blobs/uploads/", "").want(t, 202)
}

func TestInvalidLockChangeChangesNothing(t *testing.T) {
	s := newInstanceOn(t, dbtest.SQLite(t), directory{})
	s.push("a", "v1", "hello")
	for name, body := range map[string]string{
		"nothing": "", "null and more": "null 1", "no object": "[]", "no JSON": "{",
		"a text":               `{"readEnabled":"false"}`,
		"an unknown attribute": `{"readEnabled":false,"quarantined":true}`, "two objects": `{"readEnabled":false}{}`,
		"too large": `{"readEnabled":false` + strings.Repeat(" ", 5000) + `}`, "deep": strings.Repeat("[", 4000),
	} {
		for _, path := range []string{"/acr/v1/a", "/acr/v1/a/_tags/v1"} {
			if a := s.do("PATCH", path, body); a.status != 400 {
				t.Errorf("%s: %d %s", name, a.status, a.body)
			}
			if a := s.do("GET", path, ""); strings.Contains(a.body, `Enabled":false`) {
				t.Errorf("%s: %s", name, a.body)
			}
		}
	}
}

func TestConcurrentLockChangesAllApply(t *testing.T) {
	s := newInstance(t)
	_, d := s.push("a", "v1", "hello")
	for _, path := range []string{"/acr/v1/a", "/acr/v1/a/_tags/v1", "/acr/v1/a/_manifests/" + d.String()} {
		// While the handler of the first change waits for its body, the second one completes.
		body := &lateBody{text: `{"writeEnabled":false}`, first: func() {
			s.do("PATCH", path, `{"deleteEnabled":false}`).want(t, 200)
		}}
		s.send("PATCH", path, body, "Expect: 100-continue").want(t, 200)
		got := s.do("GET", path, "").want(t, 200).body
		for _, want := range []string{`"deleteEnabled":false`, `"writeEnabled":false`, `"readEnabled":true`} {
			if !strings.Contains(got, want) {
				t.Errorf("%s lacks %s: %s", path, want, got)
			}
		}
		s.do("PATCH", path, `{"deleteEnabled":true,"writeEnabled":true}`).want(t, 200)
	}
}

// A lateBody calls first, and only then gives its text, once the server reads it.
type lateBody struct {
	text  string
	first func()
}

func (b *lateBody) Read(p []byte) (int, error) {
	if b.first != nil {
		b.first()
		b.first = nil
	}
	n := copy(p, b.text)
	b.text = b.text[n:]
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}
