package mirror

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/opencontainers/go-digest"

	"ferry/internal/gateway"
	"ferry/internal/oci"
	"ferry/internal/remote"
	"ferry/internal/telemetry"
)

// remoteRegistry is what is asked of another registry; [remote.Registry] is
// one.
type remoteRegistry interface {
	Tags(ctx context.Context, repository string) ([]string, error)
	Resolve(ctx context.Context, repository, reference string) (digest.Digest, error)
	Manifest(ctx context.Context, repository, reference string) (*remote.Manifest, error)
	Referrers(ctx context.Context, repository string, d digest.Digest) ([]oci.Descriptor, error)
	Blob(ctx context.Context, repository string, d digest.Digest, offset, length int64) (io.ReadCloser, int64, error)
}

var _ remoteRegistry = (*remote.Registry)(nil)

// access is what it takes to read from a registry.
type access struct {
	Username, Password string // "" is as Docker's configuration says
	CA                 string // PEM
}

// source returns the repository at l. Where there is no user name, Docker's
// configuration and its credential helpers are asked. The caller must close it.
func (s *Service) source(l Location, a access) (*source, error) {
	transport, err := newTransport(a.CA)
	if err != nil {
		return nil, err
	}
	if s.Dial != nil {
		transport.DialContext = s.Dial
	}
	registry, err := remote.New(l.Address, remote.Options{
		Username: a.Username, Password: a.Password, DockerLogins: a.Username == "",
		Transport: transport, UserAgent: "ferry/" + telemetry.Version(),
	})
	return &source{registry: registry, repository: l.Repository, close: transport.CloseIdleConnections}, err
}

func newTransport(ca string) (*http.Transport, error) {
	transport := gateway.NewTransport()
	if ca == "" {
		return transport, nil
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("read this machine's certificate authorities: %w", err)
	}
	if !roots.AppendCertsFromPEM([]byte(ca)) {
		return nil, errors.New("the certificate authority is no certificate in PEM")
	}
	transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	return transport, nil
}
