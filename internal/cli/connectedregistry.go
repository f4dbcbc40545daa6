package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const connectedRegistries = "connected-registries"

func connectedRegistryColumns() []column {
	return []column{
		{title: "NAME", path: "name"},
		{title: "MODE", path: "mode", spare: 1},
		{title: "CONNECTION STATE", path: "connectionState"},
		{title: "PARENT", path: "parent.id", show: lastSegment, spare: 6},
		{title: "LOGIN SERVER", path: "loginServer.host", spare: 2},
		{title: "LAST SYNC (UTC)", path: "parent.syncProperties.lastSyncTime", show: seconds, spare: 5},
	}
}

// connectedRegistryDetail adds what the table of one connected registry has.
func connectedRegistryDetail() []column {
	return append(connectedRegistryColumns(),
		column{title: "SYNC STATE", show: syncStateOf},
		column{title: "LAST SUCCESS (UTC)", path: "registrySyncResult.lastSuccessfulSyncEndTime", show: seconds},
		column{title: "SYNC SCHEDULE", path: "parent.syncProperties.schedule", spare: 4},
		column{title: "SYNC WINDOW", path: "parent.syncProperties.syncWindow", spare: 3},
	)
}

// syncStateOf is how a connected registry's last sync went, and what its
// status details have: whether it is paused, what failed.
func syncStateOf(registry any) string {
	text := cell(member(registry, "registrySyncResult.syncState"))
	details, _ := member(registry, "statusDetails").([]any)
	for _, d := range details {
		text += ", " + cell(member(d, "code"))
	}
	return strings.TrimPrefix(text, ", ")
}

func newConnectedRegistryCommand(env *Env) *cobra.Command {
	return group("connected-registry", "Connected registries: sites that follow this registry",
		newConnectedRegistryCreateCommand(env),
		newConnectedRegistryShowCommand(env),
		newConnectedRegistryListCommand(env),
		newConnectedRegistryUpdateCommand(env),
		newConnectedRegistrySettingsCommand(env),
		newConnectedRegistrySyncStatusCommand(env),
		newConnectedRegistryResyncCommand(env),
		newConnectedRegistryDeactivateCommand(env),
		newConnectedRegistryDeleteCommand(env),
	)
}

func newConnectedRegistryShowCommand(env *Env) *cobra.Command {
	var name string
	return resourceVerb(env, &name, "show", "Show a connected registry and how its last sync went", `
		ferry connected-registry show -r home -n ship1
		ferry connected-registry show -r home -n ship1 --query connectionState -o tsv`,
		func(ctx context.Context, c *client) error {
			v, err := c.resource(ctx, http.MethodGet, connectedRegistries, name, nil)
			if err != nil {
				return err
			}
			return env.print(v, connectedRegistryDetail())
		})
}

func newConnectedRegistryListCommand(env *Env) *cobra.Command {
	var t *target
	var parent string
	var noChildren bool
	cmd := verb("list", "List the connected registries, each followed by those below it", `
		ferry connected-registry list -r home -o table
		ferry connected-registry list -r home --parent ship1 --no-children`,
		func(cmd *cobra.Command) error {
			c, err := t.client()
			if err != nil {
				return err
			}
			query := url.Values{}
			if parent != "" {
				query.Set("parent", parent)
			}
			if noChildren {
				query.Set("children", "direct")
			}
			v, err := c.list(cmd.Context(), connectedRegistries, query)
			if err != nil {
				return err
			}
			return env.print(v, connectedRegistryColumns())
		})
	t = env.registryFlags(cmd)
	textVar(cmd.Flags(), &parent, "parent", "p", "NAME", "only those below this connected registry")
	cmd.Flags().BoolVar(&noChildren, "no-children", false, "only those right below the parent, or at the top")
	return cmd
}

func newConnectedRegistryDeactivateCommand(env *Env) *cobra.Command {
	var name string
	var confirm *confirmation
	cmd := resourceVerb(env, &name, "deactivate", "Release a connected registry, so that another instance can become it", "ferry connected-registry deactivate -r home -n ship1 --yes",
		func(ctx context.Context, c *client) error {
			if err := confirm.ask("Are you sure you want to deactivate the connected registry '%s'?", name); err != nil {
				return err
			}
			_, err := c.resource(ctx, http.MethodPost, connectedRegistries, name, nil, "deactivate")
			return err
		})
	confirm = env.confirmation(cmd.Flags())
	return cmd
}

func newConnectedRegistryDeleteCommand(env *Env) *cobra.Command {
	var name string
	var cleanup bool
	var confirm *confirmation
	cmd := resourceVerb(env, &name, "delete", "Delete a connected registry; what runs at the site stays as it is", `
		ferry connected-registry delete -r home -n ship1 --cleanup --yes`,
		func(ctx context.Context, c *client) error {
			if err := confirm.ask("Are you sure you want to delete the connected registry '%s'?", name); err != nil {
				return err
			}
			left, err := c.leftovers(ctx, name)
			if err != nil {
				return err
			}
			segment, err := escape(name)
			if err != nil {
				return err
			}
			query := url.Values{"cleanup": {fmt.Sprint(cleanup)}}
			if _, err := c.do(ctx, call{method: http.MethodDelete, path: apiRoot + connectedRegistries + "/" + segment, query: query}); err != nil {
				return err
			}
			if cleanup {
				return nil
			}
			fmt.Fprintf(env.Stderr, "note: its sync token and permissions are still there; to remove them:\n")
			for _, command := range left {
				fmt.Fprintf(env.Stderr, "  ferry %s -r %s\n", command, c.name)
			}
			return nil
		})
	cmd.Flags().BoolVar(&cleanup, "cleanup", false, "delete its sync token and scope map, too, and its permissions in its ancestors'")
	confirm = env.confirmation(cmd.Flags())
	return cmd
}

// maxAncestors bounds the way up from a connected registry to the root.
const maxAncestors = 100

// leftovers returns the commands that remove what outlives a connected
// registry: its sync token, that token's scope map, and what the scope maps
// of its ancestors have for its gateway.
func (c *client) leftovers(ctx context.Context, name string) ([]string, error) {
	own, token, scopeMap, err := c.syncToken(ctx, name)
	if err != nil {
		return nil, err
	}
	var commands []string
	if token != "" {
		commands = append(commands, "token delete --yes -n "+token)
	}
	if scopeMap != "" {
		commands = append(commands, "scope-map delete --yes -n "+scopeMap)
	}
	for range maxAncestors {
		parent := lastSegment(member(own, "parent.id"))
		if parent == "" {
			break
		}
		if own, _, scopeMap, err = c.syncToken(ctx, parent); err != nil {
			return nil, err
		}
		if scopeMap != "" {
			commands = append(commands, fmt.Sprintf("scope-map update -n %s --remove-gateway %s config/read config/write message/read message/write", scopeMap, name))
		}
	}
	return commands, nil
}

// syncToken returns a connected registry, and the names of its sync token and
// of that token's scope map; "" where there is none.
func (c *client) syncToken(ctx context.Context, name string) (v any, token, scopeMap string, err error) {
	if v, err = c.resource(ctx, http.MethodGet, connectedRegistries, name, nil); err != nil {
		return nil, "", "", err
	}
	token = lastSegment(member(v, "parent.syncProperties.tokenId"))
	t, err := c.resource(ctx, http.MethodGet, "tokens", token, nil)
	if r := (*refusal)(nil); errors.As(err, &r) && r.status == http.StatusNotFound {
		return v, "", "", nil
	}
	return v, token, lastSegment(member(t, "scopeMapId")), err
}

// managedIdentityFlags accepts the reference's choice of how to authenticate,
// of which there is one here.
func managedIdentityFlags(set *pflag.FlagSet) {
	choiceVar(set, "auth-type", "", "SyncToken", "accepted for the reference's scripts", "SyncToken")
	set.Lookup("auth-type").Hidden = true
	ignored(set, "audit-logs-enabled", "")
	set.Lookup("audit-logs-enabled").NoOptDefVal = "true"
}
