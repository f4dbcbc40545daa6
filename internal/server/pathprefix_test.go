package server_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestLinksWorkBehindAProxyWithAPath(t *testing.T) {
	cfg := configIn(t.TempDir())
	cfg.PathPrefix, cfg.TrustedProxies = "/registry", "127.0.0.1"
	r, _ := run(t, cfg)
	target, err := url.Parse(r.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/registry/") {
			t.Errorf("a link leads to %s", r.URL)
		}
		(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.SetXForwarded()
		}}).ServeHTTP(w, r)
	}))
	defer proxy.Close()
	client, password := proxy.Client(), passwordOf(t, r)
	base, err := url.Parse(proxy.URL + "/registry/")
	if err != nil {
		t.Fatal(err)
	}
	ask := func(method, link, login string, body []byte, want int) *http.Response {
		t.Helper()
		at, err := base.Parse(link)
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequest(method, at.String(), bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if login != "" {
			req.SetBasicAuth("admin", login)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != want {
			t.Fatalf("%s %s: %d %s, %v", method, at, resp.StatusCode, text, err)
		}
		resp.Body = io.NopCloser(bytes.NewReader(text))
		return resp
	}
	challenge := ask("GET", "v2/", "", nil, 401).Header.Get("WWW-Authenticate")
	if !strings.Contains(challenge, `realm="`+proxy.URL+`/registry/oauth2/token"`) {
		t.Errorf("the challenge is %s", challenge)
	}
	ask("GET", proxy.URL+"/registry/oauth2/token?service=x", password, nil, 200)
	for _, repository := range []string{"a", "b"} {
		content := []byte(repository)
		d := digest.FromBytes(content).String()
		upload := ask("POST", "v2/"+repository+"/blobs/uploads/", password, nil, 202).Header.Get("Location")
		upload = ask("PATCH", upload, password, content, 202).Header.Get("Location")
		blob := ask("PUT", upload+"?digest="+d, password, nil, 201).Header.Get("Location")
		ask("GET", blob, password, nil, 200)
	}
	next := ask("GET", "v2/_catalog?n=1", password, nil, 200).Header.Get("Link")
	link, _, _ := strings.Cut(strings.TrimPrefix(next, "<"), ">")
	ask("GET", link, password, nil, 200)
	var page struct{ NextLink string }
	answer := ask("GET", "api/v1/repositories?n=1", password, nil, 200)
	if err := json.NewDecoder(answer.Body).Decode(&page); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(page.NextLink, "/registry/api/v1/repositories?") {
		t.Errorf("the next page is at %q", page.NextLink)
	}
	ask("GET", page.NextLink, password, nil, 200)
	ask("GET", "health/ready", "", nil, 200)
	if status, _ := get(t, r.URL+"/v2/", "admin", password); status != 200 {
		t.Errorf("without the prefix: %d", status)
	}
}
