package doctor

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"ferry/internal/api"
)

// The deadlines of checks over the network. They are long enough for a link by satellite.
const (
	nameTimeout   = 5 * time.Second
	routeTimeout  = 10 * time.Second
	answerTimeout = 20 * time.Second
	pullTimeout   = time.Minute
)

// An Endpoint is a registry, as this machine reaches it.
type Endpoint struct {
	Role    string   // how people call it, such as "parent"
	URL     *url.URL // with or without a path
	Login   Login
	Roots   *x509.CertPool // the authorities to trust; nil is the system's
	Image   string         // the image to pull, as REPOSITORY:TAG; "" is any
	Version string         // of this program

	proxy    *url.URL // in between; nil is none
	hostPort string   // to connect to
	addrs    []netip.Addr
	hello    *answer             // to a request without a login; nil if there was none
	welcome  *answer             // to the request with the login
	status   *api.InstanceStatus // nil if it is not known
}

// A Login is a name and password. The zero value is none.
type Login struct {
	Kind     string // what it is, such as "sync token"
	Name     string
	Password string
	Remedy   string // what to do if it is refused
	Absent   string // why there is none; "" is that none was given
	// Operator says that it may read the management API.
	Operator bool
}

// An answer is the header of a response, and when it came.
type answer struct {
	status     int
	header     http.Header
	body       []byte // its beginning
	sent, came time.Time
}

// Title implements [Subject].
func (e *Endpoint) Title() string { return e.Role + " " + e.URL.Redacted() }

func (e *Endpoint) checks() []check {
	e.find()
	all := []check{
		{name: "name", within: nameTimeout, run: e.checkName},
		{name: "route", needs: []string{"name"}, within: routeTimeout, run: e.checkRoute},
		{name: "tls", needs: []string{"route"}, within: answerTimeout, run: e.checkTLS},
		{name: "clock", needs: []string{"route"}, after: []string{"tls"}, within: answerTimeout, run: e.checkClock},
		{name: "login", needs: []string{"tls"}, within: answerTimeout, run: e.checkLogin},
		{name: "versions", needs: []string{"login"}, within: answerTimeout, run: e.checkVersions},
		{name: "pull", needs: []string{"login"}, within: pullTimeout, run: e.checkPull},
	}
	if !e.Login.Operator {
		return all
	}
	for _, c := range []struct {
		name  string
		judge func(api.InstanceStatus) Finding
	}{{"link", judgeLink}, {"sync", judgeSync}, {"windows", judgeWindowsNow}} {
		all = append(all, check{name: c.name, needs: []string{"login"}, after: []string{"versions"},
			within: answerTimeout, run: func(context.Context) Finding {
				if e.status == nil {
					return skipped("this login may not read the instance's status")
				}
				return c.judge(*e.status)
			}})
	}
	return all
}

// find finds out where to connect to: the registry, or a proxy in between.
func (e *Endpoint) find() {
	to := e.URL
	if proxy, err := http.ProxyFromEnvironment(&http.Request{URL: e.URL}); err == nil && proxy != nil {
		e.proxy, to = proxy, proxy
	}
	port := cmp.Or(to.Port(), map[string]string{"http": "80", "https": "443", "socks5": "1080"}[to.Scheme])
	e.hostPort = net.JoinHostPort(to.Hostname(), port)
}

// via says that a proxy is in between; "" if there is none.
func (e *Endpoint) via() string {
	if e.proxy == nil {
		return ""
	}
	return "the proxy "
}

// checkName looks up the host's addresses.
func (e *Endpoint) checkName(ctx context.Context) Finding {
	host, _, _ := net.SplitHostPort(e.hostPort) // find has joined it
	if a, err := netip.ParseAddr(host); err == nil {
		e.addrs = []netip.Addr{a}
		return ok("%s%s is an address", e.via(), host)
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	var dns *net.DNSError
	switch {
	case err == nil:
	case errors.As(err, &dns) && dns.IsNotFound:
		return fail("the name %s%s does not exist", e.via(), host).
			hint("check its spelling; or enter it in this machine's DNS server or /etc/hosts")
	case errors.As(err, &dns) && dns.IsTimeout, ctx.Err() != nil:
		return fail("the DNS server does not answer within %s", nameTimeout).
			hint("check /etc/resolv.conf, and whether this machine reaches the server that it names")
	default:
		return fail("the name %s%s cannot be looked up: %s", e.via(), host, sentence(err)).
			hint("check this machine's DNS server, in /etc/resolv.conf")
	}
	var texts []string
	for _, a := range found[:min(len(found), maxAddresses)] {
		e.addrs = append(e.addrs, a.Unmap())
		texts = append(texts, a.Unmap().String())
	}
	return ok("%s%s is %s", e.via(), host, strings.Join(texts, ", "))
}

// maxAddresses is how many addresses of a host are tried.
const maxAddresses = 8

// checkRoute connects to every address of the host.
func (e *Endpoint) checkRoute(ctx context.Context) Finding {
	_, port, _ := net.SplitHostPort(e.hostPort)
	type attempt struct {
		err  error
		took time.Duration
	}
	attempts := make(chan attempt, len(e.addrs))
	for _, a := range e.addrs {
		go func() {
			start := time.Now()
			c, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(a.String(), port))
			if err == nil {
				c.Close()
			}
			attempts <- attempt{err, time.Since(start)}
		}()
	}
	var best time.Duration
	var failures []error
	for range e.addrs {
		switch a := <-attempts; {
		case a.err != nil:
			failures = append(failures, a.err)
		case best == 0 || a.took < best:
			best = a.took
		}
	}
	if best == 0 {
		return e.noRoute(failures)
	}
	found := ok("%sport %s answers in %s", e.via(), port, rounded(best))
	if len(failures) > 0 {
		found = warn("%d of %d addresses do not answer: %s", len(failures), len(e.addrs), sentence(failures[0])).
			hint("remove them from DNS, or make them answer: each costs connections time")
	}
	return found
}

// noRoute explains why no address answers.
func (e *Endpoint) noRoute(failures []error) Finding {
	if len(failures) == 0 {
		return fail("%shas no address", e.via()).hint("enter one in DNS")
	}
	var timeout net.Error
	switch err := failures[0]; {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fail("nothing listens at %s%s", e.via(), e.hostPort).
			hint("is the registry running, and is the port right?")
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return fail("there is no route to %s%s", e.via(), e.hostPort).
			hint("check the link, the default route, and the firewall")
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return fail("%s%s does not answer within %s", e.via(), e.hostPort, routeTimeout).
			hint("check the link and the address; a firewall may block the port")
	default:
		return fail("no connection to %s%s: %s", e.via(), e.hostPort, sentence(err)).
			hint("check the link, the address and the firewall")
	}
}

// rounded returns a duration with about two digits.
func rounded(d time.Duration) time.Duration {
	switch {
	case d >= 10*time.Second:
		return d.Round(time.Second)
	case d >= 100*time.Millisecond:
		return d.Round(10 * time.Millisecond)
	case d >= time.Millisecond:
		return d.Round(time.Millisecond)
	}
	return d.Round(10 * time.Microsecond)
}

// String returns the login without its password.
func (l Login) String() string { return fmt.Sprintf("%s %s", l.Kind, l.Name) }

// GoString is String, because %#v must not show the password either.
func (l Login) GoString() string { return l.String() }
