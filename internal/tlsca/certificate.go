package tlsca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net"
	"slices"
	"strings"
	"time"
)

// maxCommonName is the longest common name that a subject may have (RFC 5280, appendix A.1).
const maxCommonName = 64

// A ca is a certificate that signs others, and its key.
type ca struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// newCA makes a CA that is valid from now, for [caLife].
func newCA(name string, now time.Time) (*ca, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	// Two CAs of an instance have different names, because some clients choose by name.
	cn := "Ferry CA " + strings.TrimSpace(name+" "+rand.Text()[:8])
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: cn[:min(len(cn), maxCommonName)]},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(caLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	if template.SubjectKeyId, err = keyID(key); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &ca{cert, key}, err
}

// issue makes a certificate for names that is valid from now, for [certLife], but no longer
// than c.
func (c *ca) issue(names []string, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(certLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if template.NotAfter.After(c.cert.NotAfter) {
		template.NotAfter = c.cert.NotAfter
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
			continue
		}
		template.DNSNames = append(template.DNSNames, name)
		if template.Subject.CommonName == "" && len(name) <= maxCommonName {
			template.Subject.CommonName = name
		}
	}
	if template.SubjectKeyId, err = keyID(key); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.cert, key.Public(), c.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}

// keyID returns the identifier of a key by the first method of RFC 7093.
func keyID(key *ecdsa.PrivateKey) ([]byte, error) {
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(point)
	return sum[:20], nil
}

// validAt reports whether c is valid at a time.
func (c *ca) validAt(t time.Time) bool {
	return !t.Before(c.cert.NotBefore) && !t.After(c.cert.NotAfter)
}

// matches reports whether c has signed cert.
func (c *ca) matches(cert *x509.Certificate) bool { return cert.CheckSignatureFrom(c.cert) == nil }

// check returns an error unless c is a CA with its own key.
func (c *ca) check() error {
	public, ok := c.cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !c.cert.IsCA || !ok || !public.Equal(c.key.Public()) {
		return errors.New("a certificate is no CA's, or its key is another's")
	}
	return nil
}

// namesOf returns the names of a certificate in the form of [normalize].
func namesOf(cert *x509.Certificate) []string {
	names := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	return normalize(names)
}

// normalize returns names in lower case and addresses in their usual form, each once.
func normalize(names []string) []string {
	var all []string
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			name = ip.String()
		}
		if name = strings.ToLower(name); name != "" && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}
