package control

import (
	"net/netip"
	"slices"

	"ferry/internal/auth"
	"ferry/internal/metadb"
)

// maxAnonymous is the maximum number of scope maps that allow anonymous pulls. Every anonymous
// request looks at all of them.
const maxAnonymous = 100

// anonymousRights are the rights of clients without credentials from some networks.
type anonymousRights struct {
	networks    []netip.Prefix
	permissions auth.Permissions
}

// anonymousRightsOf returns the rights that a scope map gives to anonymous clients, and only if it
// can be read in full; nil is none.
func anonymousRightsOf(m *metadb.ScopeMap) *anonymousRights {
	if m == nil || len(m.AnonymousNetworks) == 0 || IsSystem(*m) {
		return nil
	}
	networks, err := auth.ParseNetworks(m.AnonymousNetworks)
	if err != nil {
		return nil
	}
	p, err := auth.ParsePermissions(m.Actions)
	if err != nil {
		return nil
	}
	return &anonymousRights{networks, p.ToPull()}
}

// opens reports whether the sender at an address has these rights.
func (a *anonymousRights) opens(sender netip.Addr) bool {
	return slices.ContainsFunc(a.networks, func(n netip.Prefix) bool { return n.Contains(sender) })
}

// Anonymous returns the rights of clients without credentials at an address: in a root, those of
// every scope map with a network that contains it; in a connected registry, those of such scope maps
// of its own client tokens. It does not matter whether these tokens are enabled.
func (s *Service) Anonymous(sender netip.Addr) (p auth.Permissions) {
	state := s.State()
	state.anonymous.Root().Walk(func(scopeMap []byte, a *anonymousRights) bool {
		if a.opens(sender) && (s.self == "" || state.isOfClients(string(scopeMap), s.self)) {
			p = p.And(a.permissions)
		}
		return false
	})
	return p
}

// isOfClients reports whether a scope map is that of a client token of a connected registry.
func (s *State) isOfClients(scopeMap, registry string) bool {
	r := s.Registry(registry)
	return r != nil && slices.ContainsFunc(r.Settings.ClientTokens, func(token string) bool {
		t := s.Token(token)
		return t != nil && t.ScopeMap == scopeMap
	})
}

// CheckAnonymous returns an error if there are too many scope maps that allow anonymous pulls.
func CheckAnonymous(scopeMaps int) error {
	if scopeMaps > maxAnonymous {
		return Conflict("%d scope maps allow anonymous pulls: at most %d may", scopeMaps, maxAnonymous).
			WithHint("take the networks from another one first: ferry scope-map update -n NAME --no-anonymous")
	}
	return nil
}
