package cli

import (
	"context"

	"github.com/spf13/cobra"
)

func newConnectedRegistryCreateCommand(env *Env) *cobra.Command {
	var name, syncToken, parent string
	var mode *choiceFlag
	var repositories, clientTokens, notifications *listFlag
	var sync *syncFlags
	cmd := resourceVerb(env, &name, "create", "Create a connected registry, with its sync token and permissions", `
		ferry connected-registry create -r home -n ship1 --repository factory/app factory/tool
		ferry connected-registry create -r home -n ship1 --mode ReadOnly --sync-schedule "30 * * * *" --sync-window PT1H --repository factory/app
		ferry connected-registry create -r home -n cabin1 --parent ship1 --repository factory/app --client-tokens line1 line2`,
		func(ctx context.Context, c *client) error {
			if (syncToken == "") == (len(repositories.groups) == 0) {
				return usagef("either --sync-token or --repository must be provided, but not both")
			}
			body := sync.changes()
			body["mode"] = mode.value
			if parent != "" {
				body["parent"] = parent
			}
			if syncToken != "" {
				body["syncToken"] = syncToken
			} else {
				body["repositories"] = repositories.values()
			}
			if len(clientTokens.groups) > 0 {
				body["clientTokens"] = clientTokens.values()
			}
			if len(notifications.groups) > 0 {
				body["notifications"] = notifications.values()
			}
			v, err := c.putResource(ctx, connectedRegistries, name, body)
			if err != nil {
				return err
			}
			return env.print(v, connectedRegistryDetail())
		})
	flags := cmd.Flags()
	repositories = listVar(flags, "repository", "NAME...", "the repositories to sync")
	textVar(flags, &syncToken, "sync-token", "", "NAME", "instead of --repository: a token whose scope map says what to sync")
	mode = choiceVar(flags, "mode", "m", "ReadOnly", "ReadOnly: clients of the site may pull. ReadWrite is not there yet", "ReadOnly", "ReadWrite")
	textVar(flags, &parent, "parent", "p", "NAME", "the connected registry to be below (default this registry itself)")
	clientTokens = listVar(flags, "client-tokens", "NAME...", "tokens that may be used at the site")
	notifications = listVar(flags, "notifications", "PATTERN...", "events to report, as app/*:push or app:1.0:*")
	sync = defineSyncFlags(flags)
	// The reference asks before it opens an endpoint, which there is no need for here.
	_ = env.confirmation(flags)
	managedIdentityFlags(flags)
	return cmd
}
