package tlsca

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"ferry/internal/atomicfile"
)

// The files of an authority. caKeyFile has each CA's certificate, followed by its key, so
// that one rename replaces both. caFile is the bundle, for people and for other programs.
const (
	caFile    = "ca.crt"
	caKeyFile = "ca.key"
	certFile  = "server.crt"
	keyFile   = "server.key"
)

// The types of PEM blocks.
const (
	certificateBlock = "CERTIFICATE"
	keyBlock         = "PRIVATE KEY"
)

// A damagedError is a file with keys that cannot be read.
type damagedError struct {
	path string
	err  error
}

func (e *damagedError) Error() string { return fmt.Sprintf("%s: %v", e.path, e.err) }
func (e *damagedError) Unwrap() error { return e.err }

// Hint says how to solve the problem.
func (e *damagedError) Hint() string {
	return "restore that file; or delete it: a new CA is made, and every client has to trust that one"
}

// load reads the files. A serving certificate that cannot be read counts as missing, because
// a new one does no harm.
func (a *Authority) load() error {
	if err := os.MkdirAll(a.o.Dir, 0o700); err != nil {
		return err
	}
	var err error
	if a.cas, err = loadCAs(a.path(caKeyFile)); err != nil {
		return err
	}
	if _, err := os.Stat(a.path(caFile)); err == nil && len(a.cas) == 0 {
		a.o.Log.Warn("the CA's key is missing, and a new CA is made: clients must trust that one",
			"path", a.path(caKeyFile))
	}
	pair, err := tls.LoadX509KeyPair(a.path(certFile), a.path(keyFile))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			a.o.Log.Warn("the TLS certificate cannot be read, and a new one is made", "err", err)
		}
		return nil
	}
	for _, c := range a.cas {
		if c.matches(pair.Leaf) {
			a.cert, a.signer, a.loaded = &pair, c, true
		}
	}
	return nil
}

// loadCAs reads the CAs and their keys; none if there is no file.
func loadCAs(path string) (cas []*ca, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil { // a restored copy may have other permissions
		return nil, err
	}
	for {
		var certificate, key *pem.Block
		if certificate, data = pem.Decode(data); certificate == nil {
			break
		}
		if key, data = pem.Decode(data); key == nil {
			return nil, &damagedError{path, errors.New("a key is missing")}
		}
		c, err := parseCA(certificate, key)
		if err != nil {
			return nil, &damagedError{path, err}
		}
		cas = append(cas, c)
	}
	if len(cas) == 0 {
		return nil, &damagedError{path, errors.New("there is no certificate in it")}
	}
	return cas, nil
}

func parseCA(certificate, key *pem.Block) (*ca, error) {
	if certificate.Type != certificateBlock || key.Type != keyBlock {
		return nil, errors.New("want a certificate, and then its key")
	}
	cert, err := x509.ParseCertificate(certificate.Bytes)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(key.Bytes)
	if err != nil {
		return nil, err
	}
	signer, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, errors.New("a key cannot sign")
	}
	c := &ca{cert, signer}
	return c, c.check()
}

func saveCAs(path string, cas []*ca) error {
	var b bytes.Buffer
	for _, c := range cas {
		key, err := encodeKey(c.key)
		if err != nil {
			return err
		}
		b.Write(encodeCert(c.cert.Raw))
		b.Write(key)
	}
	return atomicfile.Write(path, b.Bytes())
}

// saveCert saves a serving certificate. After a crash between the two files they do not
// match, and a new certificate is made.
func saveCert(certPath, keyPath string, cert *tls.Certificate) error {
	key, err := encodeKey(cert.PrivateKey)
	if err != nil {
		return err
	}
	if err := atomicfile.Write(keyPath, key); err != nil {
		return err
	}
	return atomicfile.Write(certPath, encodeCert(cert.Certificate[0]))
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: der})
}

func encodeKey(key any) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der}), nil
}
