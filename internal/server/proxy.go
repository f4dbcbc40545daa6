package server

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// proxies are the addresses that are trusted to name the sender of a request.
type proxies []netip.Prefix

func (p proxies) trust(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(p, func(net netip.Prefix) bool { return net.Contains(a) })
}

// peer returns the peer of r's connection, and whether it is a trusted proxy.
func (p proxies) peer(r *http.Request) (peer netip.Addr, trusted bool) {
	if len(p) == 0 {
		return peer, false
	}
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	return at.Addr(), err == nil && p.trust(at.Addr())
}

// sender returns the address of r's sender, with a port. It is the peer of the connection
// or, if that is a trusted proxy, the last hop before the trusted proxies. The hops are in
// X-Forwarded-For or Forwarded (RFC 7239). If both exist and differ, a client may have
// forged one of them, and neither is trusted.
func (p proxies) sender(r *http.Request) string {
	peer, trusted := p.peer(r)
	if !trusted {
		return r.RemoteAddr
	}
	var found []netip.Addr
	for _, hops := range [][]string{forwardedFor(r.Header), forwarded(r.Header, "for")} {
		if len(hops) > 0 {
			found = append(found, p.first(peer, hops))
		}
	}
	if len(found) == 0 || found[0] != found[len(found)-1] || found[0] == peer {
		return r.RemoteAddr
	}
	return net.JoinHostPort(found[0].String(), "0")
}

// first returns the last hop that is not trusted, or the first hop if all are trusted.
func (p proxies) first(peer netip.Addr, hops []string) netip.Addr {
	for _, hop := range slices.Backward(hops) {
		a, ok := hopAddr(hop)
		if !ok {
			break // not an address
		}
		if peer = a; !p.trust(a) {
			break
		}
	}
	return peer
}

// hopAddr parses the address of a hop, which may have a port, brackets and quotes.
func hopAddr(hop string) (netip.Addr, bool) {
	hop = strings.Trim(strings.TrimSpace(hop), `"`)
	if ap, err := netip.ParseAddrPort(hop); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	a, err := netip.ParseAddr(strings.Trim(hop, "[]"))
	return a.Unmap().WithZone(""), err == nil
}

func forwardedFor(h http.Header) (hops []string) {
	for _, line := range h.Values("X-Forwarded-For") {
		hops = append(hops, strings.Split(line, ",")...)
	}
	return hops
}

// forwarded returns the value of a parameter, such as for=, in each element of Forwarded.
func forwarded(h http.Header, parameter string) (values []string) {
	for _, line := range h.Values("Forwarded") {
		for element := range strings.SplitSeq(line, ",") {
			found := ""
			for pair := range strings.SplitSeq(element, ";") {
				if name, value, _ := strings.Cut(strings.TrimSpace(pair), "="); strings.EqualFold(name, parameter) {
					found = value
				}
			}
			values = append(values, found)
		}
	}
	return values
}
