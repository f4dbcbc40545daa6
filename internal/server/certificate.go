package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

// A certificateSource has the certificate for each handshake.
type certificateSource interface {
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
}

// A certificate is a TLS certificate in two files. If they are replaced while the server
// runs, the next handshake uses the new ones.
type certificate struct {
	log *slog.Logger

	mu                sync.Mutex
	certFile, keyFile string
	current           *tls.Certificate
	read              [2]fileVersion // of the files that current, or the last failure, came from
}

// A fileVersion changes if a file is replaced.
type fileVersion struct {
	modified time.Time
	size     int64
}

// loadCertificate reads the files. The key must be that of the certificate.
func loadCertificate(certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	var err error
	if c.read, err = c.fileVersions(); err == nil {
		c.current, err = c.load()
	}
	if err != nil {
		hint := "--tls-cert wants PEM with the certificate first and then its chain, " +
			"--tls-key the unencrypted key of that certificate"
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			hint = "check the paths of --tls-cert and --tls-key, and whether this user may read the files"
		}
		return nil, withHint(fmt.Errorf("read TLS certificate: %w", err), hint)
	}
	return c, nil
}

// replace makes c the certificate in other files.
func (c *certificate) replace(with *certificate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.certFile, c.keyFile, c.current, c.read = with.certFile, with.keyFile, with.current, with.read
}

// GetCertificate returns the certificate for a handshake. If a file changed, it reads both again. If
// the new files do not match, because one of them is still to be replaced, it returns the
// old certificate.
func (c *certificate) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, err := c.fileVersions()
	if err != nil || now == c.read {
		return c.current, nil
	}
	c.read = now
	fresh, err := c.load()
	if err != nil {
		c.log.Warn("the TLS certificate changed and cannot be used; serving the one before it", "err", err)
		return c.current, nil
	}
	c.log.Info("read the TLS certificate again")
	c.current = fresh
	return fresh, nil
}

func (c *certificate) load() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	return &pair, err
}

func (c *certificate) fileVersions() (fileVersions [2]fileVersion, err error) {
	for i, path := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(path)
		if err != nil {
			return fileVersions, err
		}
		fileVersions[i] = fileVersion{info.ModTime(), info.Size()}
	}
	return fileVersions, nil
}
