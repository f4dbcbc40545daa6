package auth

import (
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"

	"ferry/internal/oci"
	"ferry/internal/terminal"
)

// Limits on a token request, in bytes: the size of a form, and the stored part of the service's
// name.
const (
	maxTokenRequest = 64 << 10
	maxService      = 256
)

// TokenHandler returns the token endpoint: GET with Basic credentials, as in Docker's token
// authentication, and POST with a password grant, as in its OAuth2 form. The token grants the part
// of the requested scope that the principal is allowed. GET without credentials is anonymous.
func (a *Authenticator) TokenHandler(log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, service, scopes, err := a.tokenRequest(w, r)
		if err != nil {
			a.writeError(w, r, log, err)
			return
		}
		granted := []Scope{}
		for _, s := range a.withStandIns(scopes) {
			if g := s.granted(p.Permissions); len(g.Actions) > 0 {
				granted = append(granted, g)
			}
		}
		token, issued, err := a.signer.sign(p, service, granted)
		if err != nil {
			a.writeError(w, r, log, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		json.NewEncoder(w).Encode(map[string]any{
			"token": token, "access_token": token, "token_type": "Bearer",
			"expires_in": int(tokenLifetime / time.Second), "issued_at": issued.UTC().Format(time.RFC3339),
		})
	})
}

// maxStandIns bounds the scopes that [Authenticator.withStandIns] adds. Clients that do not read a
// challenge request one or two.
const maxStandIns = 8

// withStandIns adds to the scopes a scope to pull the repository that stands in for each of theirs.
// Docker needs it: it requests a token for the repository in its request, and does not read the
// scopes of a challenge.
func (a *Authenticator) withStandIns(scopes []Scope) []Scope {
	all := scopes
	for _, s := range scopes[:min(len(scopes), maxStandIns)] {
		if s.Type != "repository" || !slices.Contains(s.Actions, "pull") {
			continue
		}
		if name := a.standIn(s.Name); name != "" {
			all = append(all, Scope{Type: s.Type, Name: name, Actions: []string{"pull"}})
		}
	}
	return all
}

// tokenRequest parses a token request.
func (a *Authenticator) tokenRequest(w http.ResponseWriter, r *http.Request) (*Principal, string, []Scope, error) {
	var p *Principal
	var err error
	query := r.URL.Query()
	switch r.Method {
	case http.MethodGet:
		if hasCredentials(r) {
			p, err = a.Basic(r)
		} else {
			p, err = a.anonymousPrincipal(r)
		}
	case http.MethodPost:
		r.Body = http.MaxBytesReader(w, r.Body, maxTokenRequest)
		if err := r.ParseForm(); errors.As(err, new(*http.MaxBytesError)) {
			return nil, "", nil, oci.ErrTooLarge.With("the form is larger than %d bytes", maxTokenRequest)
		} else if err != nil {
			return nil, "", nil, oci.ErrUnsupported.With("the form is malformed").WithStatus(http.StatusBadRequest)
		}
		query = r.PostForm
		p, err = a.formGrant(r)
	default:
		w.Header().Set("Allow", "GET, POST")
		return nil, "", nil, oci.ErrUnsupported.With("want GET or POST")
	}
	if err != nil {
		return nil, "", nil, err
	}
	scopes, err := parseScopes(query["scope"])
	service := query.Get("service")
	return p, terminal.Clip(service, maxService), scopes, err
}

// formGrant authenticates a form (RFC 6749, section 4.3). Some clients send Basic credentials with
// the form.
func (a *Authenticator) formGrant(r *http.Request) (*Principal, error) {
	switch grant := r.PostForm.Get("grant_type"); grant {
	case "password":
		return a.login(r.Context(), Sender(r), r.PostForm.Get("username"), r.PostForm.Get("password"))
	case "", "client_credentials":
		return a.Basic(r)
	default:
		return nil, oci.ErrUnauthorized.With("grant type %.20q is not supported, use password", grant)
	}
}

// writeError sends an error in the form of the distribution specification.
func (a *Authenticator) writeError(w http.ResponseWriter, r *http.Request, log *slog.Logger, err error) {
	if errors.Is(err, ErrUnauthenticated) {
		err = &ChallengeError{Err: oci.ErrUnauthorized.With("%s", ErrUnauthenticated),
			Challenge: `Basic realm="` + a.address(r) + `"`}
	}
	if c, ok := errors.AsType[*ChallengeError](err); ok {
		c.SetHeaders(w.Header())
	}
	e := oci.AsError(err)
	if e == nil {
		log.Error("token request failed", "err", err)
		e = oci.ErrInternal
	}
	oci.WriteError(w, e)
}

// SetHeaders sets the headers that belong to the error.
func (e *ChallengeError) SetHeaders(h http.Header) {
	if e.Challenge != "" {
		h.Set("WWW-Authenticate", e.Challenge)
	}
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(e.RetryAfter.Seconds()))))
	}
}
