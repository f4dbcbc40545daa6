// Package outbound makes HTTP clients of other registries that follow redirects
// safely. A redirect must not lead from https to http, nor to a private network that
// the registry itself is not in. Another origin never receives the login. Begin with
// [NewClient].
package outbound

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// maxRedirects is how many redirects of one request are followed.
const maxRedirects = 5

// A RefusedError says why a redirect is not followed.
type RefusedError struct{ text string }

// Error implements error.
func (e *RefusedError) Error() string { return e.text }

// Permanent reports that a retry is useless; see package retry.
func (e *RefusedError) Permanent() bool { return true }

func refused(format string, args ...any) error { return &RefusedError{fmt.Sprintf(format, args...)} }

// An ExpiredError is the refusal of a host to which a registry redirected. Such a link expires, and the
// registry gives another one to the next request.
type ExpiredError struct{ host string }

// LinkError returns an [ExpiredError] if resp is such a refusal; else nil.
func LinkError(resp *http.Response) error {
	if resp.StatusCode != http.StatusForbidden || resp.Request == nil || resp.Request.Response == nil {
		return nil
	}
	return &ExpiredError{resp.Request.URL.Host}
}

// Error implements error.
func (e *ExpiredError) Error() string {
	return fmt.Sprintf("the registry redirected to %s, which refused the link: it may have expired", e.host)
}

// StatusCode returns the status of the refusal; see package retry.
func (e *ExpiredError) StatusCode() int { return http.StatusForbidden }

// Permanent reports that a retry is useful; see package retry.
func (e *ExpiredError) Permanent() bool { return false }

// NewClient returns a client of the registry at registryURL that applies [CheckRedirect]. It
// checks the addresses of redirects, too, if transport, or the transport that it wraps,
// dials with [Dial].
func NewClient(registryURL *url.URL, transport http.RoundTripper) *http.Client {
	if transport == nil {
		transport = http.DefaultTransport
	}
	g := &guard{
		RoundTripper: transport, registry: hostPort(registryURL),
		proxies: map[string]bool{}, networks: map[netip.Prefix]bool{},
	}
	return &http.Client{Transport: g, CheckRedirect: CheckRedirect}
}

// CheckRedirect is for [http.Client]. It follows redirects of GET and HEAD; for any
// other method, the redirect itself is the response. It refuses redirects from https to
// http. It removes the login from r if r leaves the origin of the first request:
// net/http compares only host names, and would send the login to another port, to a
// subdomain, and over plain http.
func CheckRedirect(r *http.Request, via []*http.Request) error {
	if m := via[0].Method; m != http.MethodGet && m != http.MethodHead {
		return http.ErrUseLastResponse // net/http would turn some methods into GET
	}
	last := via[len(via)-1].URL
	if len(via) > maxRedirects {
		return refused("%s redirects again after %d redirects", last.Host, maxRedirects)
	}
	if last.Scheme == "https" && r.URL.Scheme != "https" {
		return refused("%s redirects from https to %s://%s, which is not followed, because others could read "+
			"and change the content: it must be available over https", last.Host, r.URL.Scheme, r.URL.Host)
	}
	// If a later redirect returns to the first origin, the login stays removed.
	for _, hop := range slices.Concat(via[1:], []*http.Request{r}) {
		if origin(hop.URL) != origin(via[0].URL) {
			r.Header.Del("Authorization")
		}
	}
	return nil
}

// origin is the scheme, host and port of u (RFC 6454). A login is valid for one origin.
func origin(u *url.URL) string { return u.Scheme + "://" + hostPort(u) }

// hostPort is the address to dial for u.
func hostPort(u *url.URL) string {
	port := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// A guard remembers which private networks a registry is in. It tells [Dial] whether a
// request is for the registry itself or follows a redirect of it.
type guard struct {
	http.RoundTripper
	registry string // host and port

	mu       sync.Mutex
	proxies  map[string]bool       // addresses that were dialled instead of registry
	networks map[netip.Prefix]bool // private networks that registry is in
}

// A requestInfo tells [Dial] for which request it dials.
type requestInfo struct {
	*guard
	redirected bool
}

type requestInfoKey struct{}

// RoundTrip implements [http.RoundTripper].
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	toRegistry := hostPort(r.URL) == g.registry
	if redirected := r.Response != nil && !toRegistry; toRegistry || redirected {
		r = r.WithContext(context.WithValue(r.Context(), requestInfoKey{}, requestInfo{g, redirected}))
	}
	return g.RoundTripper.RoundTrip(r)
}

// Dial returns a DialContext function for a transport. It dials with d. If a registry
// redirects to a private address, it refuses to dial that address, unless the registry
// itself is in the same private network.
func Dial(d net.Dialer) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		d := d
		if info, ok := ctx.Value(requestInfoKey{}).(requestInfo); ok {
			d.ControlContext = func(_ context.Context, _, resolved string, _ syscall.RawConn) error {
				return info.check(address, resolved)
			}
		}
		return d.DialContext(ctx, network, address)
	}
}

// check returns an error if address must not be dialled. resolved is the IP address and
// port that address resolves to.
func (m requestInfo) check(address, resolved string) error {
	at, err := netip.ParseAddrPort(resolved)
	if err != nil {
		return fmt.Errorf("dial %s: %w", address, err)
	}
	network := privateNetwork(at.Addr())
	m.mu.Lock()
	defer m.mu.Unlock()
	switch address = strings.ToLower(address); {
	case !m.redirected && address != m.registry:
		m.proxies[address] = true // a proxy decides itself which addresses it dials
	case !m.redirected:
		m.networks[network] = true
	case network.IsValid() && !m.networks[network] && !m.proxies[address]:
		return refused("%s redirects to %s, a private address in %s, a network that the registry itself is not in: "+
			"this is not followed; its content must be in its own network, or at a public address",
			m.registry, address, network)
	}
	return nil
}

// privateNetworks are the networks that are not part of the Internet (RFC 6890), so
// that an address in one means another machine in each place, and the addresses at
// which clouds serve a machine's credentials.
var privateNetworks = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("168.63.129.16/32"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("224.0.0.0/3"),
	netip.MustParsePrefix("::/128"),
	netip.MustParsePrefix("::1/128"),
	netip.MustParsePrefix("fc00::/7"),
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("ff00::/8"),
}

var (
	nat64     = []netip.Prefix{netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48")}
	sixToFour = netip.MustParsePrefix("2002::/16")
)

// privateNetwork returns the private network that an address is in; the zero value if
// the address is public.
func privateNetwork(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	switch b := a.As16(); { // an IPv6 address may embed an IPv4 address
	case slices.ContainsFunc(nat64, func(p netip.Prefix) bool { return p.Contains(a) }):
		a = netip.AddrFrom4([4]byte(b[12:]))
	case sixToFour.Contains(a):
		a = netip.AddrFrom4([4]byte(b[2:6]))
	}
	for _, p := range privateNetworks {
		if p.Contains(a) {
			return p
		}
	}
	return netip.Prefix{}
}
