package cli

import (
	"context"
	"net/http"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newTokenCredentialCommand(env *Env) *cobra.Command {
	return group("credential", "A token's two passwords, so that one can be replaced while the other is in use",
		newCredentialGenerateCommand(env),
		newCredentialDeleteCommand(env),
	)
}

// slots are the flags --password1 and --password2.
type slots [2]bool

func slotFlags(set *pflag.FlagSet, verb string) *slots {
	s := &slots{}
	set.BoolVar(&s[0], "password1", false, verb+" the first password")
	set.BoolVar(&s[1], "password2", false, verb+" the second password")
	return s
}

func (s *slots) names() []string {
	names := []string{}
	for i, name := range []string{"password1", "password2"} {
		if s[i] {
			names = append(names, name)
		}
	}
	return names
}

func newCredentialGenerateCommand(env *Env) *cobra.Command {
	var name string
	var which *slots
	var expire *expiry
	cmd := resourceVerb(env, &name, "generate", "Make new passwords for a token, in place of the old ones", `
		ferry token credential generate -r home -n line1 --password1
		ferry token credential generate -r home -n line1 --expiration-in-days 30`,
		func(ctx context.Context, c *client) error {
			until, err := expire.time(env.Now())
			if err != nil {
				return err
			}
			names := which.names()
			if len(names) == 0 {
				names = []string{"password1", "password2"}
			}
			body := map[string]any{"passwords": names}
			if until != nil {
				body["expiry"] = until
			}
			v, err := c.resource(ctx, http.MethodPost, "tokens", name, body, "credentials")
			if err != nil {
				return err
			}
			env.warnShownOnce()
			return env.print(v, credentialColumns())
		})
	which = slotFlags(cmd.Flags(), "make")
	expire = expiryFlags(cmd.Flags())
	return cmd
}

func credentialColumns() []column {
	value := func(slot string) func(any) string {
		return func(credentials any) string {
			passwords, _ := member(credentials, "passwords").([]any)
			for _, p := range passwords {
				if member(p, "name") == slot {
					return cell(member(p, "value"))
				}
			}
			return ""
		}
	}
	return []column{
		{title: "USERNAME", path: "username"},
		{title: "PASSWORD1", show: value("password1")},
		{title: "PASSWORD2", show: value("password2")},
	}
}

func newCredentialDeleteCommand(env *Env) *cobra.Command {
	var name string
	var which *slots
	cmd := resourceVerb(env, &name, "delete", "Delete passwords of a token", "ferry token credential delete -r home -n line1 --password2",
		func(ctx context.Context, c *client) error {
			names := which.names()
			if len(names) == 0 {
				return usagef("no credentials to delete: want --password1, --password2, or both")
			}
			for _, slot := range names {
				if _, err := c.resource(ctx, http.MethodDelete, "tokens", name, nil, "credentials", slot); err != nil {
					return err
				}
			}
			return nil
		})
	which = slotFlags(cmd.Flags(), "delete")
	return cmd
}
