package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/internal/config"
	"ferry/internal/tlsca"
)

// trusting returns a client that trusts a CA, and speaks HTTP/2 if it may.
func trusting(t *testing.T, ca []byte) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		t.Fatalf("no certificate in %s", ca)
	}
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestClientsConnectWithTheInstancesOwnCA(t *testing.T) {
	cfg := configIn(t.TempDir())
	cfg.TLS = config.TLSOwnCA
	r, stop := run(t, cfg)
	if !strings.HasPrefix(r.URL, "https://") {
		t.Errorf("it serves at %s", r.URL)
	}
	status, ca := get(t, r.URL+"/ca.crt", "", "")
	file, err := os.ReadFile(filepath.Join(cfg.DataDir, "tls", "ca.crt"))
	if status != 200 || err != nil || string(file) != ca {
		t.Fatalf("/ca.crt: %d %s, and the file has %s, %v", status, ca, file, err)
	}
	client := trusting(t, []byte(ca))
	req, err := http.NewRequest("GET", r.URL+"/api/v1/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("admin", passwordOf(t, r))
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var v struct{ CAFingerprint string }
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(ca))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil || v.CAFingerprint != tlsca.Fingerprint(cert) {
		t.Errorf("the fingerprint is %q, %v", v.CAFingerprint, err)
	}

	if err := stop(); err != nil {
		t.Fatal(err)
	}
	again, _ := run(t, cfg)
	if resp, err := client.Get(again.URL + "/health"); err != nil {
		t.Errorf("after a restart: %v", err)
	} else {
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}

func TestInstanceWithoutACASaysSo(t *testing.T) {
	r, _ := run(t, configIn(t.TempDir()))
	if status, body := get(t, r.URL+"/ca.crt", "", ""); status != 404 || !strings.Contains(body, "no CA of its own") {
		t.Errorf("%d %s", status, body)
	}
}

func TestUploadOverHTTP2ContinuesAfterACut(t *testing.T) {
	cfg := configIn(t.TempDir())
	cfg.TLS = config.TLSOwnCA
	r, _ := run(t, cfg)
	_, ca := get(t, r.URL+"/ca.crt", "", "")
	client, password := trusting(t, []byte(ca)), passwordOf(t, r)
	ask := func(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
		req, err := http.NewRequestWithContext(ctx, method, r.URL+path, body)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("admin", password)
		resp, err := client.Do(req)
		if err == nil && resp.ProtoMajor != 2 {
			t.Errorf("%s %s: %s", method, path, resp.Proto)
		}
		return resp, err
	}
	must := func(method, path string, body io.Reader, want int) *http.Response {
		t.Helper()
		resp, err := ask(t.Context(), method, path, body)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != want {
			t.Fatalf("%s %s: %d %.200s, %v", method, path, resp.StatusCode, text, err)
		}
		resp.Body = io.NopCloser(bytes.NewReader(text))
		return resp
	}
	content := bytes.Repeat([]byte("0123456789abcdef"), 256<<10) // 4 MiB
	upload := must("POST", "/v2/a/blobs/uploads/", nil, 202).Header.Get("Location")

	ctx, cut := context.WithCancel(t.Context())
	body, sender := io.Pipe()
	go func() {
		_, _ = sender.Write(content[:1<<20])
		cut()
	}()
	if resp, err := ask(ctx, "PATCH", upload, body); err == nil {
		resp.Body.Close()
	}
	state, err := ask(t.Context(), "GET", upload, nil)
	for err == nil && state.StatusCode == http.StatusTooManyRequests { // the cut request is being ended
		state.Body.Close()
		state, err = ask(t.Context(), "GET", upload, nil)
	}
	if err != nil || state.StatusCode != 204 {
		t.Fatalf("state of the upload: %v, %v", state, err)
	}
	state.Body.Close()
	var from int
	span := state.Header.Get("Range")
	if _, err := fmt.Sscanf(span, "0-%d", &from); err != nil || from+1 > 1<<20 {
		t.Fatalf("the upload has %q, %v", span, err)
	}
	if from > 0 {
		from++
	}
	digest := digest.FromBytes(content)
	must("PUT", upload+"?digest="+digest.String(), bytes.NewReader(content[from:]), 201)
	got, err := io.ReadAll(must("GET", "/v2/a/blobs/"+digest.String(), nil, 200).Body)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
}
