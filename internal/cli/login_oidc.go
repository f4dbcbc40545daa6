package cli

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"ferry/internal/api"
	"ferry/internal/oidc"
	"ferry/internal/terminal"
)

// An oidcLogin is the login of a person whom an OpenID Connect provider knows.
type oidcLogin struct {
	Settings api.OIDCSettings `json:"settings"`
	Token    oidc.Token       `json:"token"`
}

// renewBefore is how long before its end a token is renewed.
const renewBefore = time.Minute

// withOIDC logs a person in at the provider that the registry names, and asks the registry for the
// rights of that person.
func (o *loginOptions) withOIDC(ctx context.Context, env *Env, c *client) error {
	s, err := ask[api.OIDCSettings](ctx, c, call{method: http.MethodGet, path: oidc.LoginPath + "/settings"})
	if statusOf(err) == http.StatusNotFound {
		return withHint(err, "the registry has no OIDC provider: log in with -u USER; see --oidc-issuer of ferry serve")
	}
	if err != nil {
		return err
	}
	token, err := oidc.LogInDevice(ctx, oidc.NewClient(nil), s.value, func(address, code string) {
		fmt.Fprintf(env.Stderr, "Open %s in a browser, log in, and enter the code %s\n",
			terminal.Printable(address), terminal.Printable(code))
	})
	if err != nil {
		return err
	}
	c.login.OIDC = &oidcLogin{s.value, token}
	l, err := ask[api.Login](ctx, c, call{method: http.MethodGet, path: api.Root + "/login"})
	if err != nil {
		return err
	}
	c.login.User = l.value.Name
	return nil
}

// renewing renews the token of a client before it expires, and saves it under the name of the login.
func renewing(env *Env, name string, c *client) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		old := c.login.OIDC
		if env.Now().Before(old.Token.Expiry.Add(-renewBefore)) {
			return nil
		}
		token, err := oidc.Renew(ctx, oidc.NewClient(nil), old.Settings, old.Token)
		if err != nil {
			return withHint(err, "log in again: ferry login %s --url %s --oidc", name, c.login.URL)
		}
		c.login.OIDC = &oidcLogin{old.Settings, token}
		saved, err := env.loadLogins()
		if err != nil {
			return err
		}
		for n, l := range saved {
			if l.OIDC != nil && l.OIDC.Token.ID == old.Token.ID {
				l.OIDC = c.login.OIDC
				saved[n] = l
			}
		}
		_, err = env.saveLogins(saved)
		return err
	}
}
