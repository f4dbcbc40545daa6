package cli

import (
	"context"
	"net/http"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/api"
)

var tokens = resource[api.Token]{"tokens", []column[api.Token]{
	{title: "NAME", text: func(t api.Token) string { return t.Name }},
	{title: "SCOPE MAP", text: func(t api.Token) string { return lastSegment(t.ScopeMapID) }},
	{title: "PASSWORD1 EXPIRY", text: func(t api.Token) string { return expiryOf(t, api.Password1) }},
	{title: "PASSWORD2 EXPIRY", text: func(t api.Token) string { return expiryOf(t, api.Password2) }},
	{title: "STATUS", text: func(t api.Token) string { return t.Status }},
	{title: "PROVISIONING STATE", text: func(t api.Token) string { return t.ProvisioningState }},
	{title: "CREATION DATE", text: func(t api.Token) string { return seconds(&t.CreationDate) }},
}}

// expiryOf is when a token's password expires: "" where it has no such password,
// Never where that does not expire.
func expiryOf(t api.Token, slot string) string {
	for _, p := range t.Credentials.Passwords {
		switch {
		case p.Name != slot:
		case p.Expiry == nil:
			return "Never"
		default:
			return seconds(p.Expiry)
		}
	}
	return ""
}

func newTokenCommand(env *Env) *cobra.Command {
	return group("token", "Tokens: credentials of machines",
		verb(env, "create", "Create a token, or replace one, with two new passwords", `
			ferry token create -r home -n line1 --scope-map pullers
			ferry token create -r home -n line1 --repository factory/app content/read --expiration-in-days 30`,
			&tokenCreate{}, "name"),
		verb(env, "show", "Show a token, without its passwords", "ferry token show -r home -n line1",
			&showOptions[api.Token]{resource: tokens}, "name"),
		verb(env, "list", "List the tokens", "ferry token list -r home -o table",
			&listOptions[api.Token]{resource: tokens}),
		verb(env, "update", "Change a token's scope map or status", `
			ferry token update -r home -n line1 --status disabled
			ferry token update -r home -n line1 --scope-map pullers`,
			&tokenUpdate{}, "name"),
		verb(env, "delete", "Delete a token", "ferry token delete -r home -n line1 --yes",
			&deleteOptions{kind: tokens.kind,
				question: "Deleting the token '%s' will invalidate access to anyone using its credentials. Proceed?"}, "name"),
		newTokenCredentialCommand(env),
	)
}

type tokenUpdate struct {
	named
	patch api.TokenPatch
}

func (o *tokenUpdate) define(set *pflag.FlagSet) {
	o.named.define(set)
	textOption(set, &o.patch.ScopeMap, "scope-map", "", "NAME", "the scope map that says what the token may do")
	choiceOption(set, &o.patch.Status, "status", "whether the token can be used", api.Enabled, api.Disabled)
}

func (o *tokenUpdate) run(ctx context.Context, env *Env, c *client) error {
	if o.patch == (api.TokenPatch{}) {
		return usagef("nothing to change: want one of --scope-map, --status")
	}
	return tokens.change(ctx, env, c, http.MethodPatch, o.patch, o.name)
}
