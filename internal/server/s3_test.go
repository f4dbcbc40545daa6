//go:build s3

package server_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/config"
	"ferry/internal/outbound"
	"ferry/internal/server"
	"ferry/internal/storage/blob/s3/s3test"
)

func configOn(s *s3test.Server, dir, prefix string) config.Config {
	cfg := configIn(dir)
	cfg.Blobs, cfg.BlobsEndpoint, cfg.BlobsRegion = "s3://"+s.Bucket+"/"+prefix, s.Endpoint, "us-east-1"
	cfg.BlobsCredentialsFile = s.Credentials
	return cfg
}

// request makes a request as the administrator of the instance in dir.
func request(t *testing.T, method, url, dir string, body []byte) *http.Response {
	t.Helper()
	password, err := os.ReadFile(filepath.Join(dir, "initial-admin-password"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("admin", strings.TrimSpace(string(password)))
	resp, err := (&http.Client{CheckRedirect: outbound.CheckRedirect}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// push pushes a blob in two requests, and returns the status of the last.
func push(t *testing.T, at, dir string, content []byte) *http.Response {
	t.Helper()
	resp := request(t, "POST", at+"/v2/a/blobs/uploads/", dir, nil)
	if resp.StatusCode != http.StatusAccepted {
		return resp
	}
	base, _ := url.Parse(at)
	to, err := base.Parse(resp.Header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	return request(t, "PUT", to.String()+"?digest="+digest.FromBytes(content).String(), dir, content)
}

func TestInstanceServesBlobsOfAnObjectStore(t *testing.T) {
	store, dir := s3test.Start(t), t.TempDir()
	cfg := configOn(store, dir, "root/blobs")
	at, stop := run(t, cfg)
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	if resp := push(t, at.URL, dir, content); resp.StatusCode != http.StatusCreated {
		t.Fatalf("the push answers %s", resp.Status)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	at, _ = run(t, cfg)
	blob := at.URL + "/v2/a/blobs/" + digest.FromBytes(content).String()
	got, err := io.ReadAll(request(t, "GET", blob, dir, nil).Body)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("after a restart %d bytes are read, %v; want %d", len(got), err, len(content))
	}
	if files, err := os.ReadDir(filepath.Join(dir, "blobs")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the data directory has blobs: %v, %v", files, err)
	}
}

// TestObjectStoreWithAPrivateCAIsUsed has a store whose certificate only --blobs-ca makes valid.
func TestObjectStoreWithAPrivateCAIsUsed(t *testing.T) {
	store := s3test.Start(t)
	to, err := url.Parse(store.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewUnstartedServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = to.Scheme, to.Host, r.In.Host // it is signed
	}})
	front.Config.ErrorLog = log.New(io.Discard, "", 0)
	front.StartTLS()
	defer front.Close()
	cfg := configOn(store, t.TempDir(), "a")
	cfg.BlobsEndpoint = front.URL
	if err := start(t, cfg, server.Options{}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without the CA, the start = %v", err)
	}
	cfg.BlobsCA = filepath.Join(t.TempDir(), "ca.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}
	if err := os.WriteFile(cfg.BlobsCA, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	at, _ := run(t, cfg)
	if resp := push(t, at.URL, cfg.DataDir, []byte("content")); resp.StatusCode != http.StatusCreated {
		t.Errorf("with the CA, the push answers %s", resp.Status)
	}
}

func TestObjectStorePrefixOfAnotherInstanceIsRefused(t *testing.T) {
	store := s3test.Start(t)
	_, stop := run(t, configOn(store, t.TempDir(), "shared"))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	err := start(t, configOn(store, t.TempDir(), "shared"), server.Options{})
	if err == nil || !strings.Contains(err.Error(), "belongs to instance") {
		t.Errorf("a second instance on the prefix starts: %v", err)
	}
}

func TestObjectStoreThatIsDownIsUnavailable(t *testing.T) {
	store, dir := s3test.Start(t), t.TempDir()
	proxy := newProxy(t, store.Endpoint)
	cfg := configOn(store, dir, "a")
	cfg.BlobsEndpoint = proxy.url()
	at, _ := run(t, cfg)
	content := []byte("content")
	if resp := push(t, at.URL, dir, content); resp.StatusCode != http.StatusCreated {
		t.Fatalf("the push answers %s", resp.Status)
	}
	proxy.stop()
	for method, resp := range map[string]*http.Response{
		"GET":  request(t, "GET", at.URL+"/v2/a/blobs/"+digest.FromBytes(content).String(), dir, nil),
		"push": push(t, at.URL, dir, []byte("more")),
	} {
		if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
			t.Errorf("%s answers %s, Retry-After %q", method, resp.Status, resp.Header.Get("Retry-After"))
		}
	}
	if status, _ := get(t, at.URL+"/health/ready", "", ""); status != http.StatusServiceUnavailable {
		t.Errorf("/health/ready answers %d", status)
	}
}

// A proxy passes connections on until it stops.
type proxy struct {
	net.Listener
	cancel context.CancelFunc
}

func newProxy(t *testing.T, endpoint string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &proxy{l, cancel}
	t.Cleanup(p.stop)
	to := strings.TrimPrefix(endpoint, "http://")
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", to)
			if err != nil {
				c.Close()
				continue
			}
			context.AfterFunc(ctx, func() { c.Close(); s.Close() })
			go func() { _, _ = io.Copy(s, c); s.Close() }()
			go func() { _, _ = io.Copy(c, s); c.Close() }()
		}
	}()
	return p
}

func (p *proxy) url() string { return "http://" + p.Addr().String() }

func (p *proxy) stop() {
	p.Close()
	p.cancel()
}

func TestObjectStoreServesRedirectedClients(t *testing.T) {
	store, dir := s3test.Start(t), t.TempDir()
	content := []byte("content of a layer")
	at, stop := run(t, configOn(store, dir, "a"))
	if resp := push(t, at.URL, dir, content); resp.StatusCode != http.StatusCreated {
		t.Fatalf("the push answers %s", resp.Status)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for networks, redirected := range map[string]bool{"": false, "192.0.2.0/24": false, "127.0.0.0/8": true} {
		cfg := configOn(store, dir, "a")
		cfg.BlobRedirect = networks
		at, stop := run(t, cfg)
		blob := at.URL + "/v2/a/blobs/" + digest.FromBytes(content).String()
		resp := request(t, "GET", blob, dir, nil) // follows the redirect
		got, err := io.ReadAll(resp.Body)
		if string(got) != string(content) || err != nil {
			t.Errorf("%q: the client reads %q, %v", networks, got, err)
		}
		if to := resp.Request.URL.Host == strings.TrimPrefix(store.Endpoint, "http://"); to != redirected {
			t.Errorf("%q: the content came from %s", networks, resp.Request.URL.Host)
		}
		if redirected && resp.Request.Header.Get("Authorization") != "" {
			t.Error("the object store got the password")
		}
		if resp, err := http.Get(blob); err != nil || resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%q: a stranger gets %v, %v", networks, resp, err)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestObjectStoreMetricsAreThoseOfTheDocs(t *testing.T) {
	cfg := configOn(s3test.Start(t), t.TempDir(), "a")
	at, _ := run(t, cfg)
	if resp := push(t, at.URL, cfg.DataDir, []byte("content")); resp.StatusCode != http.StatusCreated {
		t.Fatalf("the push answers %s", resp.Status)
	}
	body, err := io.ReadAll(request(t, "GET", at.URL+"/metrics", cfg.DataDir, nil).Body)
	if err != nil {
		t.Fatal(err)
	}
	docs, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	rows := regexp.MustCompile("(?m)^\\| (`ferry_[^|]*) \\|[^|]*\\| bucket \\|").FindAllStringSubmatch(string(docs), -1)
	for _, row := range rows {
		want = append(want, regexp.MustCompile(`ferry_\w+`).FindAllString(row[1], -1)...)
	}
	types := regexp.MustCompile(`(?m)^# TYPE (ferry_object_store_\w+) `)
	for _, m := range types.FindAllStringSubmatch(string(body), -1) {
		got = append(got, m[1])
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(string(body), `ferry_object_store_requests_total{operation="put",outcome="done"}`) {
		t.Error("the push made no request")
	}
}
