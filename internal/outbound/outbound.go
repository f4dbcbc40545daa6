// Package outbound keeps requests to another registry where they belong, although
// that registry decides where its redirects lead: not out of TLS, not to private
// addresses that it is not at itself, and to another origin only without the
// login. Begin with [NewClient].
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

// maxRedirects is how many redirects in a row are followed.
const maxRedirects = 5

// A RefusedError says that a redirect is not followed.
type RefusedError struct{ text string }

// Error implements error.
func (e *RefusedError) Error() string { return e.text }

// Permanent reports that another try is useless; see package retry.
func (e *RefusedError) Permanent() bool { return true }

func refused(format string, args ...any) error { return &RefusedError{fmt.Sprintf(format, args...)} }

// NewClient returns a client of the registry at home, with [CheckRedirect]. The
// addresses of redirects are checked if transport, or what it wraps, dials with
// [Dial].
func NewClient(home *url.URL, transport http.RoundTripper) *http.Client {
	if transport == nil {
		transport = http.DefaultTransport
	}
	g := &guard{
		RoundTripper: transport, home: hostPort(home),
		proxies: map[string]bool{}, networks: map[netip.Prefix]bool{},
	}
	return &http.Client{Transport: g, CheckRedirect: CheckRedirect}
}

// CheckRedirect is an [http.Client]'s. It follows redirects of GET and HEAD; any
// other request is answered where it was sent. No redirect out of TLS is followed.
// Beyond the origin of the first request, r is sent without the login: net/http looks at
// the host's name alone, and would send it on to another port, to a name below the
// registry's and out of TLS.
func CheckRedirect(r *http.Request, via []*http.Request) error {
	if m := via[0].Method; m != http.MethodGet && m != http.MethodHead {
		return http.ErrUseLastResponse // http would make a GET of it
	}
	last := via[len(via)-1].URL
	if len(via) > maxRedirects {
		return refused("%s redirects once more after %d redirects", last.Host, maxRedirects)
	}
	if last.Scheme == "https" && r.URL.Scheme != "https" {
		return refused("%s redirects from https to %s://%s, which is not followed, because others could read "+
			"and change what comes: its content must be available over https", last.Host, r.URL.Scheme, r.URL.Host)
	}
	// A request that was elsewhere does not come back with the login either.
	for _, hop := range slices.Concat(via[1:], []*http.Request{r}) {
		if origin(hop.URL) != origin(via[0].URL) {
			r.Header.Del("Authorization")
		}
	}
	return nil
}

// origin is what a login is for: a scheme, a host and a port (RFC 6454).
func origin(u *url.URL) string { return u.Scheme + "://" + hostPort(u) }

// hostPort is what is dialled for u.
func hostPort(u *url.URL) string {
	port := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// A guard remembers in which networks a registry is, and marks each request with
// whether it goes there or where the registry redirects.
type guard struct {
	http.RoundTripper
	home string // host and port

	mu       sync.Mutex
	proxies  map[string]bool       // what is dialled for home instead
	networks map[netip.Prefix]bool // private ones, in which home is
}

// A mark is what [Dial] must know of the request that it dials for.
type mark struct {
	*guard
	redirected bool
}

type markKey struct{}

// RoundTrip implements [http.RoundTripper].
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	here := hostPort(r.URL) == g.home
	if redirected := r.Response != nil && !here; here || redirected {
		r = r.WithContext(context.WithValue(r.Context(), markKey{}, mark{g, redirected}))
	}
	return g.RoundTripper.RoundTrip(r)
}

// Dial returns a DialContext for a transport. It dials with d, and refuses private
// addresses to which a registry redirects, unless the registry is in the same
// private network itself.
func Dial(d net.Dialer) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		d := d
		if m, ok := ctx.Value(markKey{}).(mark); ok {
			d.ControlContext = func(_ context.Context, _, resolved string, _ syscall.RawConn) error {
				return m.check(address, resolved)
			}
		}
		return d.DialContext(ctx, network, address)
	}
}

// check refuses to dial address, which is the IP address and port resolved.
func (m mark) check(address, resolved string) error {
	at, err := netip.ParseAddrPort(resolved)
	if err != nil {
		return fmt.Errorf("dial %s: %w", address, err)
	}
	network := networkOf(at.Addr())
	m.mu.Lock()
	defer m.mu.Unlock()
	switch address = strings.ToLower(address); {
	case !m.redirected && address != m.home:
		m.proxies[address] = true // which decides itself where it goes
	case !m.redirected:
		m.networks[network] = true
	case network.IsValid() && !m.networks[network] && !m.proxies[address]:
		return refused("%s redirects to %s, which is a private address of %s, a network that it is not in itself: "+
			"that is not followed; its content must be in its own network, or at a public address",
			m.home, address, network)
	}
	return nil
}

// privateNetworks are those that are not of the Internet (RFC 6890), so that an
// address in one is another machine, or another service, in each place; and the
// addresses at which clouds tell a machine its secrets.
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
	nat64 = []netip.Prefix{netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48")}
	to4   = netip.MustParsePrefix("2002::/16")
)

// networkOf returns the private network that an address is in; the zero value
// if it is public.
func networkOf(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	switch b := a.As16(); { // an IPv6 address may lead to an IPv4 one
	case slices.ContainsFunc(nat64, func(p netip.Prefix) bool { return p.Contains(a) }):
		a = netip.AddrFrom4([4]byte(b[12:]))
	case to4.Contains(a):
		a = netip.AddrFrom4([4]byte(b[2:6]))
	}
	for _, p := range privateNetworks {
		if p.Contains(a) {
			return p
		}
	}
	return netip.Prefix{}
}
