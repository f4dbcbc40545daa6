//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"ferry/internal/tlsca"
	"ferry/test/daemon"
	"ferry/test/instance"
)

// background runs a program until the test, or stop, ends it.
func background(t *testing.T, env []string, path string, args ...string) (stop func()) {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			_ = cmd.Process.Kill() // it may have ended
			_ = cmd.Wait()         // its error is that it was killed
		}
	}
	t.Cleanup(stop)
	return stop
}

// A pebbleServer is an ACME server for tests.
type pebbleServer struct {
	directory string
	ca        string         // file with the CA of its own certificate
	roots     *x509.CertPool // that its certificates lead to
	stop      func()
}

// startPebble starts an ACME server that checks names at one address, whatever they are.
func startPebble(t *testing.T, at string) *pebbleServer {
	t.Helper()
	dir := t.TempDir()
	_, err := tlsca.Open(tlsca.Options{Dir: dir, Log: slog.New(slog.DiscardHandler),
		Names: func() []string { return []string{"127.0.0.1"} }})
	if err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(at)
	if err != nil {
		t.Fatal(err)
	}
	listen, management, dns := daemon.FreeAddress(t), daemon.FreeAddress(t), daemon.FreeAddress(t)
	tlsPort, err := net.LookupPort("tcp", port)
	if err != nil {
		t.Fatal(err)
	}
	settings, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": listen, "managementListenAddress": management,
		"certificate": filepath.Join(dir, "server.crt"), "privateKey": filepath.Join(dir, "server.key"),
		"httpPort": 1, "tlsPort": tlsPort,
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "pebble.json")
	if err := os.WriteFile(file, settings, 0o600); err != nil {
		t.Fatal(err)
	}
	background(t, nil, program(t, "pebble-challtestsrv"), "-defaultIPv4", host, "-defaultIPv6", "", "-dnsserver", dns,
		"-doh", "", "-http01", "", "-https01", "", "-tlsalpn01", "", "-management", daemon.FreeAddress(t))
	p := &pebbleServer{
		directory: "https://" + listen + "/dir", ca: filepath.Join(dir, "ca.crt"), roots: x509.NewCertPool(),
	}
	p.stop = background(t, []string{"PEBBLE_VA_NOSLEEP=1"}, program(t, "pebble"), "-config", file, "-dnsserver", dns)

	text, err := os.ReadFile(p.ca)
	if err != nil {
		t.Fatal(err)
	}
	own := x509.NewCertPool()
	own.AppendCertsFromPEM(text)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: own}}}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) { // until it serves
		resp, err := client.Get("https://" + management + "/roots/0")
		if err == nil {
			root, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err == nil && p.roots.AppendCertsFromPEM(root) {
				return p
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("pebble does not serve: %v", err)
		}
	}
}

// health asks an instance under a name for its health, and returns the certificate.
func health(s *instance.Instance, name string, roots *x509.CertPool) (*x509.Certificate, error) {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, s.Host)
		},
	}}
	resp, err := client.Get("https://" + name + "/health")
	if err != nil {
		return nil, err
	}
	resp.Body.Close()
	return resp.TLS.PeerCertificates[0], nil
}

func TestCertificatesComeFromAnACMEServer(t *testing.T) {
	at := daemon.FreeAddress(t)
	pebble := startPebble(t, at)
	options := instance.Options{Listen: at, DataDir: filepath.Join(t.TempDir(), "data"), Args: []string{
		"--tls", "acme", "--tls-names", "registry.example,mirror.example", "--acme-directory", pebble.directory,
		"--acme-ca", pebble.ca, "--acme-email", "operator@example.org"}}
	s := instance.Start(t, options)
	first, err := health(s, "registry.example", pebble.roots)
	for deadline := time.Now().Add(time.Minute); err != nil; first, err = health(s, "registry.example", pebble.roots) {
		if time.Now().After(deadline) {
			t.Fatalf("%v\n%s", err, s.Log())
		}
		time.Sleep(100 * time.Millisecond) // until it was issued
	}
	if _, err := health(s, "mirror.example", pebble.roots); err != nil {
		t.Errorf("the second name: %v", err)
	}
	if _, err := health(s, "other.example", pebble.roots); err == nil {
		t.Error("a name that is not in the settings has a certificate")
	}
	s.Stop(t)
	pebble.stop()
	s = instance.Start(t, options)
	again, err := health(s, "registry.example", pebble.roots)
	if err != nil || !again.Equal(first) {
		t.Errorf("without the ACME server, after a restart: %v\n%s", err, s.Log())
	}
}
