package auth

import (
	"context"
	"net/http"
	"slices"

	"ferry/internal/oci"
)

// An Access is an action on a repository.
type Access struct {
	Repository string
	Action     Action
}

// A Grant is the rights of a request: those of its principal here and now and, for a request with a
// signed token, only as far as the token's scopes cover them.
type Grant struct {
	principal *Principal
	scopes    []Scope // of a signed token
	limited   bool    // whether the scopes limit the rights
	sender    string  // the address that the request came from
}

// AllowsRepository reports whether the request may do action on repository.
func (g Grant) AllowsRepository(repository string, action Action) bool {
	if g.principal == nil || !g.principal.Permissions.AllowsRepository(repository, action) {
		return false
	}
	return !g.limited || slices.ContainsFunc(g.scopes, func(s Scope) bool { return s.allows(repository, action) })
}

// mustLogIn reports whether a request without credentials is not enough for GET /v2/ and the
// catalog: clients find out from GET /v2/ that there is a login, and check a password with it. An
// anonymous client with a token is admitted.
func (g Grant) mustLogIn() bool { return g.principal.Kind == KindAnonymous && !g.limited }

// Name returns the name of the principal; "" for an anonymous request.
func (g Grant) Name() string {
	if g.principal == nil {
		return ""
	}
	return g.principal.Name
}

// Actor returns the name of the principal in the audit log.
func (g Grant) Actor() string {
	if g.principal == nil {
		return ""
	}
	return ActorOf(g.principal.Name, g.principal.Key)
}

// IsConnectedRegistry reports whether the principal is the sync token of a connected registry.
func (g Grant) IsConnectedRegistry() bool {
	return g.principal != nil && g.principal.Kind == KindToken &&
		g.principal.Permissions.AllowsAnyGateway(MessageRead)
}

// Sender returns the address from which the request came.
func (g Grant) Sender() string { return g.sender }

// MayList reports whether the catalog shows the repository to the principal.
func (g Grant) MayList(repository string) bool {
	return g.principal != nil && (g.principal.Permissions.AllowsRepository(repository, MetadataRead) ||
		g.principal.Permissions.AllowsRepository(repository, ContentRead))
}

// Authorize returns the grant of a request that is allowed every access in need. Otherwise the
// error is a [*ChallengeError] for a request without valid credentials, or [oci.ErrDenied]. Without
// need, the request is to GET /v2/, or to list the repositories that the principal may read.
func (a *Authenticator) Authorize(r *http.Request, need ...Access) (Grant, error) {
	g, err := a.grant(r)
	if err == nil && len(need) == 0 && g.mustLogIn() {
		err = ErrUnauthenticated
	}
	if err != nil {
		return Grant{}, a.challenge(r, err, need)
	}
	for _, n := range need {
		if g.AllowsRepository(n.Repository, n.Action) {
			continue
		}
		if g.limited && g.principal.Permissions.AllowsRepository(n.Repository, n.Action) {
			// The client may have this right, and must request a token for it.
			return Grant{}, a.challenge(r, errInsufficientScope, need)
		}
		return Grant{}, a.denied(r, g, need)
	}
	return a.counted(g), nil
}

// counted counts an allowed request.
func (a *Authenticator) counted(g Grant) Grant {
	if g.principal.Kind == KindAnonymous {
		a.unnamed.Add(1)
	}
	return g
}

// denied returns the error for a request whose principal lacks a right. A client that is anonymous
// may have more rights with a login.
func (a *Authenticator) denied(r *http.Request, g Grant, need []Access) error {
	if g.principal.Kind != KindAnonymous {
		return errDenied
	}
	if g.limited {
		return a.challenge(r, errInsufficientScope, need)
	}
	return a.challenge(r, ErrUnauthenticated, need)
}

// errDenied is the refusal of a principal without the right, with the reference's message.
var errDenied = oci.ErrDenied.With("Insufficient scopes to perform the operation")

// AuthorizeFirst returns the grant of a request that one of several repositories may answer, and
// that repository: among those in need that the principal has the right to, the first that exists,
// or else the last. exists is called only for these, and a challenge has the scopes of all
// repositories in need. So a client that may not read a repository does not learn whether it exists.
func (a *Authenticator) AuthorizeFirst(
	r *http.Request, exists func(ctx context.Context, repository string) (bool, error), need ...Access,
) (Grant, string, error) {
	g, err := a.grant(r)
	if err != nil {
		return Grant{}, "", a.challenge(r, err, need)
	}
	allowed := slices.DeleteFunc(slices.Clone(need), func(n Access) bool {
		return !g.principal.Permissions.AllowsRepository(n.Repository, n.Action)
	})
	for i, n := range allowed {
		if i < len(allowed)-1 {
			if ok, err := exists(r.Context(), n.Repository); err != nil {
				return Grant{}, "", err
			} else if !ok {
				continue
			}
		}
		if !g.AllowsRepository(n.Repository, n.Action) {
			return Grant{}, "", a.challenge(r, errInsufficientScope, need)
		}
		return a.counted(g), n.Repository, nil
	}
	return Grant{}, "", a.denied(r, g, need)
}

func (a *Authenticator) grant(r *http.Request) (Grant, error) {
	if isBearer(r) {
		value := bearerOf(r)
		if IsAPIKey(value) {
			p, err := a.bearer(r, value)
			return Grant{principal: p, sender: Sender(r)}, err
		}
		c, err := a.signer.verify(value)
		if err != nil && a.people != nil && !a.signer.issued(value) {
			p, err := a.bearer(r, value)
			return Grant{principal: p, sender: Sender(r)}, err
		}
		if err != nil {
			return Grant{}, err
		}
		var p *Principal
		if c.Kind == KindAnonymous {
			p, err = a.anonymousPrincipal(r)
		} else {
			p, err = a.directory.Lookup(r.Context(), c.Kind, c.Subject, c.Generation)
		}
		return Grant{principal: p, scopes: c.Access, limited: true, sender: Sender(r)}, err
	}
	if !hasCredentials(r) {
		p, err := a.anonymousPrincipal(r)
		return Grant{principal: p, sender: Sender(r)}, err
	}
	p, err := a.Basic(r)
	return Grant{principal: p, sender: Sender(r)}, err
}
