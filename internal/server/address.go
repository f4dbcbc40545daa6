package server

import (
	"net/http"
	"net/url"
	"strings"

	"ferry/internal/auth"
	"ferry/internal/config"
)

// unproxy makes r look as the client sent it to the first proxy: its host, its scheme (in
// [auth.HeaderProto]) and a path without prefix. It returns the prefix, which is also in
// [auth.HeaderPrefix]. The headers that say so count only if a trusted proxy sent them, and
// are removed otherwise.
func (s *settings) unproxy(r *http.Request) (prefix string) {
	var proto, host string
	if _, trusted := s.proxies.peer(r); trusted {
		proto, host, prefix = forwardedAddress(r.Header)
	}
	for _, name := range []string{auth.HeaderProto, "X-Forwarded-Host", auth.HeaderPrefix} {
		r.Header.Del(name)
	}
	if proto == "http" || proto == "https" {
		r.Header.Set(auth.HeaderProto, proto)
	}
	if host != "" {
		r.Host = host
	}
	if s.prefix != "" && stripPrefix(r.URL, s.prefix) && prefix != s.prefix {
		prefix += s.prefix
	}
	if s.external.path != "" && strings.EqualFold(r.Host, s.external.host) {
		prefix = s.external.path
	}
	if prefix != "" {
		r.Header.Set(auth.HeaderPrefix, prefix)
	}
	return prefix
}

// forwardedAddress returns the scheme, the host and the path prefix that the first proxy saw;
// "" for each that is missing or malformed.
func forwardedAddress(h http.Header) (proto, host, prefix string) {
	first := func(name, inForwarded string) string {
		value, _, _ := strings.Cut(h.Get(name), ",")
		if value == "" && inForwarded != "" {
			value, _, _ = strings.Cut(strings.Join(forwarded(h, inForwarded), ","), ",")
		}
		return strings.Trim(strings.TrimSpace(value), `"`)
	}
	proto = strings.ToLower(first(auth.HeaderProto, "proto"))
	host = first("X-Forwarded-Host", "host")
	if u, err := url.Parse("http://" + host); err != nil || u.Host != host || u.Hostname() == "" ||
		strings.ContainsAny(host, ` "'<>`) {
		host = ""
	}
	if prefix = strings.TrimSuffix(first(auth.HeaderPrefix, ""), "/"); !config.IsPathPrefix(prefix) {
		prefix = ""
	}
	return proto, host, prefix
}

// stripPrefix removes a prefix from a path, and reports whether it was there. Otherwise it
// changes nothing.
func stripPrefix(u *url.URL, prefix string) bool {
	rest, ok := strings.CutPrefix(u.Path, prefix)
	if !ok || rest != "" && rest[0] != '/' {
		return false
	}
	if u.RawPath != "" {
		raw, ok := strings.CutPrefix(u.RawPath, prefix)
		if !ok {
			return false // the prefix is escaped in an unusual way
		}
		u.RawPath = raw
	}
	if u.Path = rest; rest == "" {
		u.Path = "/"
	}
	return true
}
