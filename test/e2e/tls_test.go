//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ferry/test/image"
	"ferry/test/instance"
)

// certificate writes a self-signed certificate for 127.0.0.1 and the names, and its key, and
// returns the paths of their files.
func certificate(t *testing.T, names ...string) (cert, key string) {
	t.Helper()
	dir := t.TempDir()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "ferry test"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames:              names,
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", keyDER)
}

func TestConnectedRegistryReachesItsParentOverTLS(t *testing.T) {
	cert, key := certificate(t)
	trust := "SSL_CERT_FILE=" + cert
	root := instance.Start(t, instance.Options{Args: []string{"--tls-cert", cert, "--tls-key", key}})
	img := image.New(t, image.Options{Seed: 40, Layers: []int64{100_000}})
	c := &skopeo{command{path: program(t, "skopeo"), args: []string{"--insecure-policy"}, env: []string{trust}},
		root.AsAdmin(t), "", filepath.Join(t.TempDir(), "auth.json")}
	if _, err := c.feed(c.Password, "login", "--authfile", c.auth, "--username", "admin", "--password-stdin",
		root.Host); err != nil {
		t.Fatal(err)
	}
	if _, err := c.run("copy", "--quiet", "--authfile", c.auth, "oci:"+img.Dir+":"+img.Tag,
		"docker://"+root.Host+"/apps/a:v1"); err != nil {
		t.Fatal(err)
	}
	sh := root.Admin(t, "root", trust)
	sh.Run(t, "connected-registry", "create", "--name", "ship1", "--mode", "ReadOnly", "--repository", "apps/a",
		"--yes")
	connection := instance.Settings(t, sh, "ship1", root.Host, "https")
	ship := instance.Start(t, connection.Options(instance.Options{Env: []string{trust}}))
	awaitImage(t, ship, "apps/a", img)
}
