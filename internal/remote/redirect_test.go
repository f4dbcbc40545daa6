package remote_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/internal/outbound"
	"ferry/internal/remote"
	"ferry/internal/retry"
)

func TestRedirectToPlainHTTPIsRefused(t *testing.T) {
	asked := 0
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		io.WriteString(w, `{"tags":["v1"],"manifests":[]}`)
	}))
	defer plain.Close()
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, plain.URL+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	defer secure.Close()
	r, err := remote.New(secure.URL, remote.Options{Transport: secure.Client().Transport})
	if err != nil {
		t.Fatal(err)
	}
	ctx, d := t.Context(), digest.FromString("x")
	for kind, ask := range map[string]func() error{
		"tags":       func() error { _, err := r.Tags(ctx, "a"); return err },
		"a manifest": func() error { _, err := r.Manifest(ctx, "a", "v1"); return err },
		"a digest":   func() error { _, err := r.Resolve(ctx, "a", "v1"); return err },
		"a blob":     func() error { _, _, err := r.Blob(ctx, "a", d, 0, -1); return err },
	} {
		var refusal *outbound.RefusedError
		if err := ask(); !errors.As(err, &refusal) ||
			!strings.Contains(err.Error(), "redirects from https to http://") {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if found, err := r.Referrers(ctx, "a", d); err != nil || found.Listed || found.Problem == nil {
		t.Errorf("referrers: %+v, %v", found, err)
	}
	if asked > 0 {
		t.Errorf("%d requests were sent over http", asked)
	}
}

func TestRedirectedPushFails(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}))
	defer s.Close()
	err := client(t, s.URL, remote.Options{}).PutManifest(t.Context(), "a", "v1", "application/json", []byte("{}"))
	if err == nil || !strings.Contains(err.Error(), "307") {
		t.Errorf("the redirected push of a manifest: %v", err)
	}
}

func TestExpiredLinkIsReplacedByTheRegistry(t *testing.T) {
	asked := 0
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("link") == "1" {
			http.Error(w, "<Error><Code>AccessDenied</Code></Error>", http.StatusForbidden)
			return
		}
		w.Header().Set("Content-Range", "bytes 0-6/7")
		w.WriteHeader(http.StatusPartialContent)
		io.WriteString(w, "content")
	}))
	defer elsewhere.Close()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		http.Redirect(w, r, fmt.Sprint(elsewhere.URL, "/?link=", asked), http.StatusTemporaryRedirect)
	}))
	defer s.Close()
	c := client(t, s.URL, remote.Options{})
	_, _, err := c.Blob(t.Context(), "a", digest.FromString("content"), 0, 7)
	if err == nil || retry.Permanent(err) {
		t.Errorf("an expired link: %v, permanent %v", err, retry.Permanent(err))
	}
	body, _, err := c.Blob(t.Context(), "a", digest.FromString("content"), 0, 7)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if got, err := io.ReadAll(body); string(got) != "content" || err != nil {
		t.Errorf("the next link gives %q, %v", got, err)
	}
}
