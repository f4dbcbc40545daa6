package cli

import (
	"context"
	"net/http"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/api"
)

func newTokenCredentialCommand(env *Env) *cobra.Command {
	return group("credential", "A token's two passwords, so that one can be replaced while the other is in use",
		verb(env, "generate", "Make new passwords for a token, in place of the old ones", `
			ferry token credential generate -r home -n line1 --password1
			ferry token credential generate -r home -n line1 --expiration-in-days 30`,
			&credentialGenerate{}, "name"),
		verb(env, "delete", "Delete passwords of a token", "ferry token credential delete -r home -n line1 --password2", &credentialDelete{}, "name"),
	)
}

// slots are the flags --password1 and --password2.
type slots struct {
	first, second bool
}

func (s *slots) define(set *pflag.FlagSet, verb string) {
	set.BoolVar(&s.first, api.Password1, false, verb+" the first password")
	set.BoolVar(&s.second, api.Password2, false, verb+" the second password")
}

func (s *slots) names() (names []string) {
	if s.first {
		names = append(names, api.Password1)
	}
	if s.second {
		names = append(names, api.Password2)
	}
	return names
}

type credentialGenerate struct {
	named
	expiry
	slots
}

func (o *credentialGenerate) define(set *pflag.FlagSet) {
	o.named.define(set)
	o.slots.define(set, "make")
	o.expiry.define(set)
}

func (o *credentialGenerate) run(ctx context.Context, env *Env, c *client) error {
	until, err := o.time(env.Now())
	if err != nil {
		return err
	}
	post := api.CredentialsPost{Passwords: o.names(), Expiry: until}
	if len(post.Passwords) == 0 {
		post.Passwords = []string{api.Password1, api.Password2}
	}
	made, err := write[api.TokenCredentials](ctx, c, http.MethodPost, post, tokens.kind, o.name, "credentials")
	if err != nil {
		return err
	}
	env.warnShownOnce()
	return show(env, made, credentialColumns())
}

func credentialColumns() []column[api.TokenCredentials] {
	password := func(slot string) func(api.TokenCredentials) string {
		return func(c api.TokenCredentials) string {
			for _, p := range c.Passwords {
				if p.Name == slot {
					return value(p.Value)
				}
			}
			return ""
		}
	}
	return []column[api.TokenCredentials]{
		{title: "USERNAME", text: func(c api.TokenCredentials) string { return c.Username }},
		{title: "PASSWORD1", text: password(api.Password1)},
		{title: "PASSWORD2", text: password(api.Password2)},
	}
}

type credentialDelete struct {
	named
	slots
}

func (o *credentialDelete) define(set *pflag.FlagSet) {
	o.named.define(set)
	o.slots.define(set, "delete")
}

func (o *credentialDelete) run(ctx context.Context, env *Env, c *client) error {
	names := o.names()
	if len(names) == 0 {
		return usagef("no credentials to delete: want --password1, --password2, or both")
	}
	for _, slot := range names {
		if err := c.remove(ctx, nil, tokens.kind, o.name, "credentials", slot); err != nil {
			return err
		}
	}
	return nil
}
