package cli

import (
	"context"
	"net/http"

	"github.com/spf13/cobra"
)

func tokenColumns() []column {
	return []column{
		{title: "NAME", path: "name"},
		{title: "SCOPE MAP", path: "scopeMapId", show: lastSegment},
		{title: "PASSWORD1 EXPIRY", path: "", show: expiryOf("password1")},
		{title: "PASSWORD2 EXPIRY", path: "", show: expiryOf("password2")},
		{title: "STATUS", path: "status"},
		{title: "PROVISIONING STATE", path: "provisioningState"},
		{title: "CREATION DATE", path: "creationDate", show: seconds},
	}
}

// expiryOf shows when a token's password expires: "" where it has no such
// password, Never where that does not expire.
func expiryOf(slot string) func(any) string {
	return func(token any) string {
		passwords, _ := member(token, "credentials.passwords").([]any)
		for _, p := range passwords {
			if member(p, "name") == slot {
				return orNever(member(p, "expiry"))
			}
		}
		return ""
	}
}

func newTokenCommand(env *Env) *cobra.Command {
	return group("token", "Tokens: credentials of machines",
		newTokenCreateCommand(env),
		newTokenShowCommand(env),
		newTokenListCommand(env),
		newTokenUpdateCommand(env),
		newTokenDeleteCommand(env),
		newTokenCredentialCommand(env),
	)
}

func newTokenShowCommand(env *Env) *cobra.Command {
	var name string
	return resourceVerb(env, &name, "show", "Show a token, without its passwords", "ferry token show -r home -n line1",
		func(ctx context.Context, c *client) error {
			v, err := c.resource(ctx, http.MethodGet, "tokens", name, nil)
			if err != nil {
				return err
			}
			return env.print(v, tokenColumns())
		})
}

func newTokenListCommand(env *Env) *cobra.Command {
	var t *target
	cmd := verb("list", "List the tokens", "ferry token list -r home -o table",
		func(cmd *cobra.Command) error {
			c, err := t.client()
			if err != nil {
				return err
			}
			v, err := c.list(cmd.Context(), "tokens", nil)
			if err != nil {
				return err
			}
			return env.print(v, tokenColumns())
		})
	t = env.registryFlags(cmd)
	return cmd
}

func newTokenUpdateCommand(env *Env) *cobra.Command {
	var name, scopeMap string
	var status *choiceFlag
	var cmd *cobra.Command
	cmd = resourceVerb(env, &name, "update", "Change a token's scope map or status", `
		ferry token update -r home -n line1 --status disabled
		ferry token update -r home -n line1 --scope-map pullers`,
		func(ctx context.Context, c *client) error {
			changes := map[string]any{}
			if cmd.Flags().Changed("scope-map") {
				changes["scopeMap"] = scopeMap
			}
			if status.value != "" {
				changes["status"] = status.value
			}
			if len(changes) == 0 {
				return usagef("nothing to change: want one of --scope-map, --status")
			}
			v, err := c.resource(ctx, http.MethodPatch, "tokens", name, changes)
			if err != nil {
				return err
			}
			return env.print(v, tokenColumns())
		})
	textVar(cmd.Flags(), &scopeMap, "scope-map", "", "NAME", "the scope map that says what the token may do")
	status = choiceVar(cmd.Flags(), "status", "", "", "whether the token can be used", "enabled", "disabled")
	return cmd
}

func newTokenDeleteCommand(env *Env) *cobra.Command {
	var name string
	var confirm *confirmation
	cmd := resourceVerb(env, &name, "delete", "Delete a token", "ferry token delete -r home -n line1 --yes",
		func(ctx context.Context, c *client) error {
			if err := confirm.ask("Deleting the token '%s' will invalidate access to anyone using its credentials. Proceed?", name); err != nil {
				return err
			}
			_, err := c.resource(ctx, http.MethodDelete, "tokens", name, nil)
			return err
		})
	confirm = env.confirmation(cmd.Flags())
	return cmd
}
