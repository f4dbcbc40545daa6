package oidc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"ferry/internal/api"
)

// A Token is what the command line keeps of a login.
type Token struct {
	ID      string    `json:"idToken"`
	Refresh string    `json:"refreshToken,omitempty"` // "" if the provider gives none
	Expiry  time.Time `json:"expiry"`                 // of ID
}

// maxDevice bounds the time in which a person may finish a device login.
const maxDevice = 15 * time.Minute

// A device is a client of the provider without a browser (RFC 8628).
type device struct {
	oauth    oauth2.Config
	provider *gooidc.Provider
	ctx      context.Context // with the HTTP client, as the library wants it
	end      context.CancelFunc
}

func newDevice(ctx context.Context, c *http.Client, s api.OIDCSettings) (*device, error) {
	if err := CheckIssuer(s.Issuer); err != nil {
		return nil, err
	}
	ctx, end := context.WithTimeout(gooidc.ClientContext(ctx, c), maxDevice)
	p, err := gooidc.NewProvider(ctx, s.Issuer)
	if err != nil {
		end()
		return nil, unreached(s.Issuer, err)
	}
	return &device{
		oauth: oauth2.Config{ClientID: s.ClientID, ClientSecret: s.ClientSecret, Endpoint: p.Endpoint(),
			Scopes: append(Scopes(), gooidc.ScopeOfflineAccess)},
		provider: p, ctx: ctx, end: end,
	}, nil
}

// token returns the ID token in an answer of the provider.
func (d *device) token(t *oauth2.Token) (Token, error) {
	raw, ok := t.Extra("id_token").(string)
	if !ok {
		return Token{}, errors.New("the OIDC provider sent no ID token")
	}
	id, err := d.provider.Verifier(&gooidc.Config{
		ClientID: d.oauth.ClientID, SupportedSigningAlgs: algorithms(),
	}).Verify(d.ctx, raw)
	if err != nil {
		return Token{}, fmt.Errorf("check ID token: %w", err)
	}
	return Token{ID: raw, Refresh: t.RefreshToken, Expiry: id.Expiry}, nil
}

// LogInDevice logs a person in who opens an address in a browser on any machine; prompt shows it,
// with the code to enter there.
func LogInDevice(
	ctx context.Context, c *http.Client, s api.OIDCSettings, prompt func(address, code string),
) (Token, error) {
	d, err := newDevice(ctx, c, s)
	if err != nil {
		return Token{}, err
	}
	defer d.end()
	if d.oauth.Endpoint.DeviceAuthURL == "" {
		return Token{}, errors.New("the OIDC provider has no device flow")
	}
	answer, err := d.oauth.DeviceAuth(d.ctx)
	if err != nil {
		return Token{}, fmt.Errorf("begin device login: %w", err)
	}
	address := answer.VerificationURIComplete
	if address == "" {
		address = answer.VerificationURI
	}
	prompt(address, answer.UserCode)
	t, err := d.oauth.DeviceAccessToken(d.ctx, answer)
	if err != nil {
		return Token{}, fmt.Errorf("finish device login: %w", err)
	}
	return d.token(t)
}

// Renew returns a new token for one that expires. The person does nothing.
func Renew(ctx context.Context, c *http.Client, s api.OIDCSettings, old Token) (Token, error) {
	if old.Refresh == "" {
		return Token{}, errors.New("the login has ended, and the OIDC provider gave no means to renew it")
	}
	d, err := newDevice(ctx, c, s)
	if err != nil {
		return Token{}, err
	}
	defer d.end()
	t, err := d.oauth.TokenSource(d.ctx, &oauth2.Token{RefreshToken: old.Refresh}).Token()
	if err != nil {
		return Token{}, fmt.Errorf("renew the login: %w", err)
	}
	renewed, err := d.token(t)
	if renewed.Refresh == "" {
		renewed.Refresh = old.Refresh
	}
	return renewed, err
}
