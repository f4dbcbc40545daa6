package doctor

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxBody is how much of an answer is read, in bytes.
const maxBody = 1 << 20

// transport returns a transport for one request or a few.
func (e *Endpoint) transport(c *tls.Config) *http.Transport {
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: c, IdleConnTimeout: time.Second,
		DialContext: (&net.Dialer{Timeout: routeTimeout}).DialContext, ResponseHeaderTimeout: answerTimeout,
		MaxResponseHeaderBytes: 64 << 10, DisableCompression: true,
	}
}

// client returns a client that verifies certificates and follows no redirects.
func (e *Endpoint) client() *http.Client {
	return &http.Client{
		Transport:     e.transport(&tls.Config{RootCAs: e.Roots, MinVersion: tls.VersionTLS12}),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// get requests a path with the login, and reads the beginning of the answer.
func (e *Endpoint) get(
	ctx context.Context, c *http.Client, path string, login Login, header http.Header,
) (*answer, error) {
	defer c.CloseIdleConnections()
	path, query, _ := strings.Cut(path, "?")
	u := e.URL.JoinPath(path)
	u.RawQuery = query
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		r.Header[name] = values
	}
	r.Header.Set("User-Agent", "ferry-doctor/"+e.Version)
	if login.Name != "" {
		r.SetBasicAuth(login.Name, login.Password)
	}
	a := &answer{sent: time.Now()}
	resp, err := c.Do(r)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer resp.Body.Close()
	a.came, a.status, a.header = time.Now(), resp.StatusCode, resp.Header
	a.body, err = io.ReadAll(io.LimitReader(resp.Body, maxBody))
	return a, err
}

// withoutURL returns the cause of a request's error. The error itself repeats the URL.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// checkTLS makes a request without a login, and checks the certificate.
func (e *Endpoint) checkTLS(ctx context.Context) Finding {
	var state *tls.ConnectionState
	// The certificate is checked below, to find out what is wrong with it. This request has no
	// login, and of its answer only the header is used.
	c := &http.Client{
		Transport: e.transport(&tls.Config{
			InsecureSkipVerify: true, MinVersion: tls.VersionTLS10,
			VerifyConnection: func(s tls.ConnectionState) error { state = &s; return nil },
		}),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	hello, err := e.get(ctx, c, "/v2/", Login{}, nil)
	e.hello = hello
	if err != nil && state == nil {
		return e.noAnswer(err)
	}
	if e.URL.Scheme == "http" {
		return e.checkPlain()
	}
	found := checkCertificate(state, e.URL, e.Roots, time.Now())
	switch {
	case found.Status != OK:
	case err != nil:
		found = fail("no answer over TLS: %s", sentence(err)).hint("look at the registry's log")
	case e.proxy == nil && e.acceptsOldTLS(ctx):
		found = warn("the server accepts TLS 1.1 and older, which can be broken").
			hint("make TLS 1.2 its lowest version; a proxy in front of the registry may be what accepts them")
	}
	return found
}

// checkPlain judges an answer without TLS.
func (e *Endpoint) checkPlain() Finding {
	host := e.URL.Hostname()
	switch ip := net.ParseIP(host); {
	case strings.Contains(string(e.hello.body), "HTTP request to an HTTPS server"): // the text of net/http
		return fail("the server speaks TLS, and the address says http").hint("use https://%s", e.URL.Host)
	case host == "localhost", ip != nil && ip.IsLoopback():
		return ok("plain HTTP, on this machine")
	}
	return warn("plain HTTP: everybody on the way can read passwords and change images").
		hint("use https:// unless the network in between is trusted, such as that of a cluster")
}

// noAnswer explains a request without an answer.
func (e *Endpoint) noAnswer(err error) Finding {
	text := sentence(err)
	switch {
	case strings.Contains(text, "server gave HTTP response to HTTPS client"):
		return fail("the server speaks plain HTTP, and the address says https").hint("use http://%s", e.URL.Host)
	case strings.Contains(text, "malformed HTTP response"):
		return fail("the server does not speak HTTP").hint("is this the port of the registry? With TLS, use https://")
	case strings.Contains(text, "protocol version"), strings.Contains(text, "no cipher suite"):
		return fail("the server and this program have no version of TLS in common: %s", text).
			hint("make the server accept TLS 1.2 or 1.3")
	case strings.Contains(text, "Proxy Authentication Required"):
		return fail("the proxy wants a login").hint("write it into HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT")
	case strings.Contains(text, "EOF"), strings.Contains(text, "reset by peer"):
		return fail("the server closes the connection: %s", text).
			hint("does a firewall or a proxy inspect TLS? Look at the log of the registry")
	case errors.Is(err, context.DeadlineExceeded), strings.Contains(text, "timeout"):
		return fail("no answer within %s, although the port accepts connections", answerTimeout).
			hint("look at the registry's log; a firewall or a low MTU may drop large packets")
	}
	return fail("no answer: %s", text).hint("look at the registry's log")
}

// acceptsOldTLS reports whether the server accepts a version of TLS below 1.2.
func (e *Endpoint) acceptsOldTLS(ctx context.Context) bool {
	d := tls.Dialer{Config: &tls.Config{
		ServerName: e.URL.Hostname(), MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11,
		InsecureSkipVerify: true, // nothing is sent
	}}
	c, err := d.DialContext(ctx, "tcp", e.hostPort)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// expiresSoon is how long before its end a certificate is reported, and shareLeft the part of
// its life that is left then, if that is less.
const (
	expiresSoon = 14 * 24 * time.Hour
	shareLeft   = 6
)

// checkCertificate checks the certificate of a connection to u at a time.
func checkCertificate(s *tls.ConnectionState, u *url.URL, roots *x509.CertPool, now time.Time) Finding {
	host := u.Hostname()
	if len(s.PeerCertificates) == 0 {
		return fail("the server has no certificate").hint("give it one")
	}
	leaf := s.PeerCertificates[0]
	between := x509.NewCertPool()
	for _, c := range s.PeerCertificates[1:] {
		between.AddCert(c)
	}
	date := func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
	chains, err := leaf.Verify(x509.VerifyOptions{
		DNSName: host, Roots: roots, Intermediates: between, CurrentTime: now,
	})
	var invalid x509.CertificateInvalidError
	switch {
	case err == nil:
	case now.Before(leaf.NotBefore):
		return fail("the certificate is valid only from %s on", date(leaf.NotBefore)).
			hint("set the clock of this machine, or that of the machine that made the certificate")
	case now.After(leaf.NotAfter):
		return fail("the certificate expired at %s", date(leaf.NotAfter)).
			hint("renew it at the server; or set this machine's clock, if that is wrong")
	case errors.As(err, new(x509.HostnameError)):
		return fail("the certificate is not for %s, but for %s", host, namesOf(leaf)).
			hint("use one of these names; or add this one to the certificate, such as with --tls-names")
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return fail("this machine does not know the authority of the certificate, %s", issuerOf(leaf)).
			hint("give its certificate with --ca FILE, here or to ferry client configure; if the registry made it: "+
				"curl -k https://%s/ca.crt, and compare", u.Host)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fail("a certificate of the chain above the server's has expired").hint("renew it at the server")
	default:
		return fail("the certificate is not valid: %s", sentence(err)).hint("renew it at the server")
	}
	if s.Version < tls.VersionTLS12 {
		return fail("the server speaks at most %s, which can be broken", tls.VersionName(s.Version)).
			hint("make the server accept TLS 1.2 or 1.3")
	}
	left, life := leaf.NotAfter.Sub(now), leaf.NotAfter.Sub(leaf.NotBefore)
	if left < min(expiresSoon, life/shareLeft) {
		return warn("the certificate expires at %s", date(leaf.NotAfter)).
			hint("renew it; if that should have happened by itself, look at the log of what renews it")
	}
	root := chains[0][len(chains[0])-1]
	return ok("%s, certificate of %s until %s", tls.VersionName(s.Version), cmp.Or(root.Subject.CommonName,
		issuerOf(leaf)), leaf.NotAfter.UTC().Format(time.DateOnly))
}

// namesOf returns some of the names and addresses of a certificate.
func namesOf(c *x509.Certificate) string {
	names := append([]string{}, c.DNSNames...)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	const most = 4
	switch {
	case len(names) == 0:
		return "no name"
	case len(names) > most:
		return fmt.Sprintf("%s and %d others", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

func issuerOf(c *x509.Certificate) string {
	return cmp.Or(c.Issuer.CommonName, c.Issuer.String(), "which has no name")
}
