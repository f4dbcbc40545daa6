package oidc

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"ferry/internal/api"
	"ferry/internal/auth"
)

// The paths of [Service.ServeHTTP].
const (
	LoginPath    = "/login/oidc"
	callbackPath = LoginPath + "/callback"
	settingsPath = LoginPath + "/settings"
	logoutPath   = "/logout"
)

// The login of a browser that has not ended.
const (
	loginCookie = "ferry_login"
	loginUse    = "login"
	loginFor    = 10 * time.Minute
	maxReturn   = 1024 // bytes of the address to return to
)

// A pending login is the content of the cookie of a browser that is at the provider.
type pending struct {
	State    string    `json:"state"`
	Nonce    string    `json:"nonce"`
	Verifier string    `json:"verifier"`
	Return   string    `json:"return"`
	End      time.Time `json:"end"`
}

// IsPath reports whether a request is for [Service.ServeHTTP].
func IsPath(path string) bool {
	return path == LoginPath || strings.HasPrefix(path, LoginPath+"/") || path == logoutPath
}

// ServeHTTP serves the login of browsers, and the settings for the command line.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	switch {
	case r.URL.Path == settingsPath && r.Method == http.MethodGet:
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(api.OIDCSettings{ // an error means that the client is gone
			Issuer: s.Issuer, ClientID: s.CLIClientID, ClientSecret: s.CLIClientSecret,
		})
	case r.URL.Path == LoginPath && r.Method == http.MethodGet:
		s.begin(w, r)
	case r.URL.Path == callbackPath && r.Method == http.MethodGet:
		s.finish(w, r)
	case r.URL.Path == logoutPath && r.Method == http.MethodPost:
		if http.NewCrossOriginProtection().Check(r) != nil {
			http.Error(w, "a page of another site may not end the session", http.StatusForbidden)
			return
		}
		s.setCookie(w, r, sessionCookie, "/", "", -time.Second)
		w.WriteHeader(http.StatusNoContent)
	default:
		http.NotFound(w, r)
	}
}

// setCookie sets a cookie that no script reads, and that is sent only over TLS if this request came
// over TLS.
func (s *Service) setCookie(w http.ResponseWriter, r *http.Request, name, path, value string, age time.Duration) {
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Path: s.prefix(r) + path, MaxAge: int(age / time.Second), HttpOnly: true,
		Secure: s.overTLS(r), SameSite: http.SameSiteLaxMode,
	})
}

// prefix returns the path at which the sender of a request reached this instance.
func (s *Service) prefix(r *http.Request) string {
	u, err := url.Parse(s.Address(r))
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(u.Path, "/")
}

func (s *Service) overTLS(r *http.Request) bool { return strings.HasPrefix(s.Address(r), "https://") }

// isSafe reports whether the cookies of a request cannot be read on the network.
func (s *Service) isSafe(r *http.Request) bool {
	u, err := url.Parse(s.Address(r))
	return s.overTLS(r) || err == nil && isLoopback(u.Hostname())
}

// begin sends a browser to the provider.
func (s *Service) begin(w http.ResponseWriter, r *http.Request) {
	if !s.isSafe(r) {
		http.Error(w, "a login needs TLS: use https://", http.StatusForbidden)
		return
	}
	p, err := s.discovered()
	if err != nil {
		http.Error(w, "the login provider does not answer; operators with a password can log in",
			http.StatusServiceUnavailable)
		return
	}
	v := pending{State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier(),
		Return: returnTo(r.URL.Query().Get("return")), End: s.Now().Add(loginFor)}
	sealed, err := s.signed.seal(loginUse, v)
	if err != nil {
		http.Error(w, "the login cannot begin", http.StatusInternalServerError)
		return
	}
	s.setCookie(w, r, loginCookie, LoginPath, sealed, loginFor)
	to := s.oauth(p, r).AuthCodeURL(v.State, gooidc.Nonce(v.Nonce), oauth2.S256ChallengeOption(v.Verifier))
	http.Redirect(w, r, to, http.StatusFound)
}

// returnTo returns the address at this instance to return to after a login. Anything that could lead
// to another site is replaced by "/".
func returnTo(text string) string {
	if len(text) > maxReturn || !strings.HasPrefix(text, "/") || strings.HasPrefix(text, "//") ||
		strings.ContainsAny(text, "\\\r\n\t") {
		return "/"
	}
	if u, err := url.Parse(text); err != nil || u.Host != "" || u.Scheme != "" {
		return "/"
	}
	return text
}

// unknownName stands for the name in a refused login that does not tell it.
const unknownName = "(oidc)"

// finish ends a login with the provider's answer.
func (s *Service) finish(w http.ResponseWriter, r *http.Request) {
	v, err := s.answered(r)
	s.setCookie(w, r, loginCookie, LoginPath, "", -time.Second)
	if err == nil {
		err = s.exchange(w, r, v)
	}
	if err != nil {
		s.Log.Warn("a login with OIDC failed", "err", err)
		name, stranger := unknownName, (*strangerError)(nil)
		if errors.As(err, &stranger) {
			name = namePrefix + stranger.name
		}
		s.Failed(r.Context(), auth.Sender(r), name)
		status, text := http.StatusForbidden, "the login failed; begin again, and see the registry's log"
		if errors.Is(err, auth.ErrUnauthenticated) {
			text = "you are in no group that may manage this registry"
		}
		http.Error(w, text, status)
		return
	}
	http.Redirect(w, r, s.prefix(r)+v.Return, http.StatusSeeOther)
}

var errUsed = errors.New("the answer was used before")

// answered returns the login that a request from the provider answers.
func (s *Service) answered(r *http.Request) (v pending, err error) {
	c, err := r.Cookie(loginCookie)
	if err != nil {
		return v, errors.New("no login of this browser has begun")
	}
	if err := s.signed.open(loginUse, c.Value, &v); err != nil {
		return v, err
	}
	query := r.URL.Query()
	switch {
	case !s.Now().Before(v.End):
		return v, errors.New("the login took too long")
	case v.State == "" || subtle.ConstantTimeCompare([]byte(v.State), []byte(query.Get("state"))) != 1:
		return v, errors.New("the answer is to another login")
	case !s.used.use(v.State, v.End, s.Now()):
		return v, errUsed
	case query.Get("error") != "":
		return v, errors.New("the provider refused")
	case query.Get("code") == "":
		return v, errors.New("the answer has no code")
	}
	return v, nil
}

// exchange exchanges the code in a request for an ID token, and sets the session of its person.
func (s *Service) exchange(w http.ResponseWriter, r *http.Request, v pending) error {
	p, err := s.discovered()
	if err != nil {
		return err
	}
	ctx := gooidc.ClientContext(r.Context(), s.client)
	token, err := s.oauth(p, r).Exchange(ctx, r.URL.Query().Get("code"), oauth2.VerifierOption(v.Verifier))
	if err != nil {
		return errors.New("the provider did not accept the code") // its answer may have a secret
	}
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return errors.New("the provider sent no ID token")
	}
	person, _, err := s.verify(r.Context(), raw, v.Nonce, s.ClientID)
	if err != nil {
		return err
	}
	// Only now, so that strangers cause no writes.
	if s.Use != nil {
		first, err := s.Use(r.Context(), v.State, v.End)
		if err != nil {
			return err
		}
		if !first {
			return errUsed
		}
	}
	sealed, err := s.signed.seal(sessionUse, session{*person, s.rulesHash(), s.Now().Add(sessionFor)})
	if err == nil {
		s.setCookie(w, r, sessionCookie, "/", sealed, sessionFor)
		s.Log.Info("logged in with OIDC", "name", namePrefix+person.Name)
		s.LoggedIn(r.Context(), auth.Sender(r), namePrefix+person.Name)
	}
	return err
}
