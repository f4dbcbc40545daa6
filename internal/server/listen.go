package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/crypto/acme"

	"ferry/internal/config"
)

// Limits of a connection. Uploads and answers have no time limit, because a layer takes
// hours over a slow link, but they must make progress; see [body] and [recorder].
const (
	readHeaderTimeout = 20 * time.Second
	idleTimeout       = 5 * time.Minute // longer than the time between two polls
	maxHeaderBytes    = 32 << 10        // enough for a token with the largest number of scopes
	maxStreams        = 100             // requests at a time on one HTTP/2 connection
)

// listen opens the listener of cfg, without TLS.
func listen(cfg config.Config, connected bool, log *slog.Logger) (*boundedListener, error) {
	l, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		var sys *os.SyscallError
		if errors.As(err, &sys) {
			err = sys.Err // "bind: address already in use" says less than the address
		}
		err = fmt.Errorf("listen on %s: %w", cfg.Listen, err)
		if errors.Is(err, os.ErrPermission) {
			return nil, withHint(err,
				"ports below 1024 need a privilege; choose a higher one, such as --listen :5000")
		}
		return nil, advise(cfg, err)
	}
	trusted, err := config.ParseProxies(cfg.TrustedProxies)
	if err != nil {
		return nil, err // cannot happen: Validate has checked it
	}
	return newBoundedListener(l, newQuota(maxConnections(cfg, connected), trusted), log), nil
}

// withTLS adds TLS to a listener, unless there are no certificates.
func withTLS(l net.Listener, certs certificateSource) net.Listener {
	if certs == nil {
		return l
	}
	protocols := []string{"h2", "http/1.1"}
	if _, ok := certs.(*acmeCertificates); ok {
		protocols = append(protocols, acme.ALPNProto) // with which an ACME server checks a name
	}
	return tls.NewListener(l, &tls.Config{
		MinVersion: tls.VersionTLS12, GetCertificate: certs.GetCertificate, NextProtos: protocols,
	})
}

func newHTTPServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams, WriteByteTimeout: writeStall},
		// Errors such as a client's broken handshake are no errors of the server.
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// localURL returns the URL of a listener for clients on this machine.
func localURL(cfg config.Config, addr net.Addr) string {
	scheme := "https"
	if cfg.TLSMode() == config.TLSOff {
		scheme = "http"
	}
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return scheme + "://" + addr.String()
	}
	host := tcp.IP.String()
	if tcp.IP.IsUnspecified() {
		host = "127.0.0.1"
	}
	return scheme + "://" + net.JoinHostPort(host, fmt.Sprint(tcp.Port))
}
