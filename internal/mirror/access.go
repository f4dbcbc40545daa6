package mirror

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"

	"github.com/opencontainers/go-digest"

	"ferry/internal/gateway"
	"ferry/internal/remote"
	"ferry/internal/telemetry"
)

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
	src := &source{repository: l.Repository, close: transport.CloseIdleConnections, answers: map[digest.Digest][]digest.Digest{}}
	src.registry, err = remote.New(l.Address, remote.Options{
		Username: a.Username, Password: a.Password, DockerLogins: a.Username == "",
		Transport: heard{backoffTransport{transport, s.hosts}, src.hear}, UserAgent: "ferry/" + telemetry.Version(),
	})
	return src, err
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
