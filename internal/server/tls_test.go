package server_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
