package doctor

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

const (
	layerDigest = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	childDigest = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// paths serves fixed answers by path. One that begins with a digit is a status.
func paths(t *testing.T, answers map[string]string) *url.URL {
	t.Helper()
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		text, ok := answers[r.URL.Path]
		if user, password, _ := r.BasicAuth(); user != "line1" || password != "geheim" {
			t.Errorf("%s came from %q", r.URL.Path, user)
		}
		var status int
		if _, err := fmt.Sscan(text, &status); err == nil {
			http.Error(w, text, status)
			return
		}
		if !ok {
			http.NotFound(w, r)
			return
		}
		if to, ok := strings.CutPrefix(text, "to "); ok {
			http.Redirect(w, r, to, http.StatusTemporaryRedirect)
			return
		}
		fmt.Fprint(w, text)
	}, nil)
}

func TestPullIsTriedAndJudged(t *testing.T) {
	store := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("the store of blobs got the login")
		}
		fmt.Fprint(w, "content")
	}, nil)
	loop := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/again", http.StatusTemporaryRedirect)
	}, nil)
	const (
		catalog, tags = "/v2/_catalog", "/v2/apps/nav/tags/list"
		manifest      = "/v2/apps/nav/manifests/v1"
		blob          = "/v2/apps/nav/blobs/" + layerDigest
		listed        = `{"repositories": ["../../etc", "apps/nav"]}`
		image         = `{"layers": [{"digest": "` + layerDigest + `"}]}`
	)
	for _, test := range []struct {
		name    string
		image   string
		answers map[string]string
		status  Status
		parts   []string
	}{
		{"any image", "",
			map[string]string{catalog: listed, tags: `{"tags": ["v1"]}`, manifest: image, blob: "content"}, OK,
			[]string{"a manifest of apps/nav", "7 bytes of a layer"}},
		{"a named image", "apps/nav:v1", map[string]string{manifest: image, blob: "content"}, OK, nil},
		{"the latest of a named image", "apps/nav",
			map[string]string{"/v2/apps/nav/manifests/latest": image, blob: "content"}, OK, nil},
		{"an index", "apps/nav:v1", map[string]string{manifest: `{"manifests": [{"digest": "` + childDigest + `"}]}`,
			"/v2/apps/nav/manifests/" + childDigest: image, blob: "content"}, OK, nil},
		{"no layer", "apps/nav:v1", map[string]string{manifest: `{}`}, OK, []string{"no layer"}},
		{"blobs elsewhere", "apps/nav:v1", map[string]string{manifest: image, blob: "to " + store.String()}, OK, nil},
		{"blobs nowhere", "apps/nav:v1", map[string]string{manifest: image, blob: "to " + loop.String()}, Fail, nil},
		{"nothing is listed", "", map[string]string{catalog: `{"repositories": []}`}, Warn, []string{"--image"}},
		{"no tag", "", map[string]string{catalog: listed, tags: `{"tags": []}`}, Warn, nil},
		{"not allowed", "apps/nav:v1", map[string]string{manifest: "403"}, Fail, []string{"content/read"}},
		{"not there", "apps/nav:v1", nil, Fail, []string{"is not there"}},
		{"damaged", "apps/nav:v1", map[string]string{manifest: image, blob: "500"}, Fail, []string{"log"}},
		{"hostile digest", "apps/nav:v1", map[string]string{manifest: `{"layers": [{"digest": "../../../secret"}]}`},
			Fail, nil},
		{"no JSON", "", map[string]string{catalog: "<html>"}, Fail, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := &Endpoint{URL: paths(t, test.answers), Image: test.image,
				Login: Login{Kind: "token", Name: "line1", Password: "geheim"}}
			expect(t, e.checkPull(t.Context()), test.status, test.parts...)
		})
	}
}

func TestRedirectToPlainHTTPIsNotFollowed(t *testing.T) {
	a := newAuthority(t)
	plain := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("it was followed") }, nil)
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, plain.String(), http.StatusTemporaryRedirect)
	}, a.config(t))
	e := &Endpoint{URL: u, Roots: a.roots()}
	if _, err := e.layer(t.Context(), "apps/nav", layerDigest); err == nil {
		t.Error("no error")
	}
}
