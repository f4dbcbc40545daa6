package server

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// proxies are the addresses whose word for the sender of a request is believed.
type proxies []netip.Prefix

func (p proxies) trust(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(p, func(net netip.Prefix) bool { return net.Contains(a) })
}

// sender returns the address that r came from, with a port: that of the connection or,
// if that is a trusted proxy's, of the last sender before the trusted proxies. Of
// X-Forwarded-For and Forwarded (RFC 7239) one is enough; if both are there and
// disagree, a client may have made one of them up, and neither is believed.
func (p proxies) sender(r *http.Request) string {
	if len(p) == 0 {
		return r.RemoteAddr
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !p.trust(peer.Addr()) {
		return r.RemoteAddr
	}
	var found []netip.Addr
	for _, hops := range [][]string{forwardedFor(r.Header), forwarded(r.Header)} {
		if len(hops) > 0 {
			found = append(found, p.first(peer.Addr(), hops))
		}
	}
	if len(found) == 0 || found[0] != found[len(found)-1] || found[0] == peer.Addr() {
		return r.RemoteAddr
	}
	return net.JoinHostPort(found[0].String(), "0")
}

// first returns the last hop that is not trusted, or the first of those that are.
func (p proxies) first(peer netip.Addr, hops []string) netip.Addr {
	for _, hop := range slices.Backward(hops) {
		a, ok := hopAddr(hop)
		if !ok {
			break // it is no address
		}
		if peer = a; !p.trust(a) {
			break
		}
	}
	return peer
}

// hopAddr reads the address of a hop, which may have a port, brackets and quotes.
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

// forwarded returns the for= of each element of Forwarded.
func forwarded(h http.Header) (hops []string) {
	for _, line := range h.Values("Forwarded") {
		for element := range strings.SplitSeq(line, ",") {
			hop := ""
			for pair := range strings.SplitSeq(element, ";") {
				if name, value, _ := strings.Cut(strings.TrimSpace(pair), "="); strings.EqualFold(name, "for") {
					hop = value
				}
			}
			hops = append(hops, hop)
		}
	}
	return hops
}
