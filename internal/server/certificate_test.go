package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// writePair writes a self-signed certificate for 127.0.0.1 and its key, sets their
// modification time, and returns their paths.
func writePair(t *testing.T, dir, name string, modified time.Time) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	for path, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: der},
		keyFile:  {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, modified, modified); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

func subject(t *testing.T, c *certificate) string {
	t.Helper()
	pair, err := c.GetCertificate(&tls.ClientHelloInfo{})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf.Subject.CommonName
}

func TestReplacedCertificateIsUsedAtTheNextHandshake(t *testing.T) {
	dir, start := t.TempDir(), time.Now()
	certFile, keyFile := writePair(t, dir, "first", start)
	c, err := loadCertificate(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if got := subject(t, c); got != "first" {
		t.Errorf("at first: %s", got)
	}
	writePair(t, dir, "second", start.Add(time.Second))
	if got := subject(t, c); got != "second" {
		t.Errorf("after the change: %s", got)
	}
	if err := os.WriteFile(keyFile, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := subject(t, c); got != "second" {
		t.Errorf("with a broken key: %s", got)
	}
	if err := os.Remove(certFile); err != nil {
		t.Fatal(err)
	}
	if got := subject(t, c); got != "second" {
		t.Errorf("without the file: %s", got)
	}
}

func TestBadCertificateIsRefusedWithAHint(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := writePair(t, dir, "x", time.Now())
	for name, pair := range map[string][2]string{
		"missing":   {filepath.Join(dir, "none"), keyFile},
		"exchanged": {keyFile, certFile},
	} {
		_, err := loadCertificate(pair[0], pair[1], slog.New(slog.DiscardHandler))
		var h interface{ Hint() string }
		if err == nil || !errors.As(err, &h) || h.Hint() == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
