package auth

import (
	"net/http"
	"net/netip"
)

// anonymousPrincipal returns the principal of a request without credentials, if its sender's
// address has any rights.
func (a *Authenticator) anonymousPrincipal(r *http.Request) (*Principal, error) {
	if a.anonymous == nil {
		return nil, ErrUnauthenticated
	}
	address, err := netip.ParseAddr(Sender(r))
	if err != nil {
		return nil, ErrUnauthenticated
	}
	p := a.anonymous(address.Unmap().WithZone(""))
	if p.AllowsNothing() {
		return nil, ErrUnauthenticated
	}
	return &Principal{Kind: KindAnonymous, Permissions: p}, nil
}

// AnonymousRequests returns how many requests without credentials were allowed.
func (a *Authenticator) AnonymousRequests() int64 { return a.unnamed.Load() }
