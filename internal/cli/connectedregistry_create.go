package cli

import (
	"context"
	"net/http"

	"github.com/spf13/pflag"

	"ferry/internal/api"
)

type registryCreate struct {
	named
	confirmation // the reference asks before it opens an endpoint, which there is no need for here
	put          api.RegistryPut
}

func (o *registryCreate) define(set *pflag.FlagSet) {
	o.named.define(set)
	namesVar(set, &o.put.Repositories, "repository", "", "NAME...", "the repositories to sync")
	textVar(set, &o.put.SyncToken, "sync-token", "", "NAME", "instead of --repository: a token whose scope map says what to sync")
	choiceVar(set, &o.put.Mode, "mode", "m", api.ReadOnly, "ReadOnly: clients of the site may pull. ReadWrite is not there yet", api.ReadOnly, api.ReadWrite)
	textVar(set, &o.put.Parent, "parent", "p", "NAME", "the connected registry to be below (default this registry itself)")
	namesVar(set, &o.put.ClientTokens, "client-tokens", "", "NAME...", "tokens that may be used at the site")
	namesVar(set, &o.put.Notifications, "notifications", "", "PATTERN...", "events to report, as app/*:push or app:1.0:*")
	defineSyncFlags(set, &o.put.Settings)
	o.confirmation.define(set)
	managedIdentityFlags(set)
}

func (o *registryCreate) run(ctx context.Context, env *Env, c *client) error {
	if (o.put.SyncToken == "") == (len(o.put.Repositories) == 0) {
		return usagef("either --sync-token or --repository must be provided, but not both")
	}
	return connectedRegistries.change(ctx, env, c, http.MethodPut, o.put, o.name)
}
