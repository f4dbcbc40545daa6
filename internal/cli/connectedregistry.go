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

	"ferry/internal/api"
)

var connectedRegistries = resource[api.ConnectedRegistry]{
	"connected-registries", append(registryListColumns(), []column[api.ConnectedRegistry]{
		{title: "SYNC STATE", text: syncStateOf},
		{title: "LAST SUCCESS (UTC)", text: func(r api.ConnectedRegistry) string {
			return seconds(value(r.RegistrySyncResult).LastSuccessfulSyncEndTime)
		}},
		{title: "SYNC SCHEDULE", text: func(r api.ConnectedRegistry) string {
			return r.Parent.SyncProperties.Schedule
		}, spare: 4},
		{title: "SYNC WINDOW", text: func(r api.ConnectedRegistry) string {
			return value(r.Parent.SyncProperties.SyncWindow)
		}, spare: 3},
	}...),
}

// registryListColumns are those of a list. One registry alone has more.
func registryListColumns() []column[api.ConnectedRegistry] {
	return []column[api.ConnectedRegistry]{
		{title: "NAME", text: func(r api.ConnectedRegistry) string { return r.Name }},
		{title: "MODE", text: func(r api.ConnectedRegistry) string { return r.Mode }, spare: 1},
		{title: "CONNECTION STATE", text: func(r api.ConnectedRegistry) string { return r.ConnectionState }},
		{title: "PARENT", text: func(r api.ConnectedRegistry) string { return lastSegment(value(r.Parent.ID)) }, spare: 6},
		{title: "LOGIN SERVER", text: func(r api.ConnectedRegistry) string { return value(r.LoginServer).Host }, spare: 2},
		{title: "LAST SYNC (UTC)", text: func(r api.ConnectedRegistry) string {
			return seconds(r.Parent.SyncProperties.LastSyncTime)
		}, spare: 5},
	}
}

// syncStateOf is how a connected registry's last sync went, and what its
// status details have: whether it is paused, what failed.
func syncStateOf(r api.ConnectedRegistry) string {
	text := value(r.RegistrySyncResult).SyncState
	for _, d := range r.StatusDetails {
		text += ", " + d.Code
	}
	return strings.TrimPrefix(text, ", ")
}

func newConnectedRegistryCommand(env *Env) *cobra.Command {
	return group("connected-registry", "Connected registries: sites that follow this registry",
		verb(env, "create", "Create a connected registry, with its sync token and permissions", `
			ferry connected-registry create -r home -n ship1 --repository factory/app factory/tool
			ferry connected-registry create -r home -n ship1 --mode ReadOnly --sync-schedule "30 * * * *" --sync-window PT1H --repository factory/app
			ferry connected-registry create -r home -n cabin1 --parent ship1 --repository factory/app --client-tokens line1 line2`,
			&registryCreate{}, "name"),
		verb(env, "show", "Show a connected registry and how its last sync went", `
			ferry connected-registry show -r home -n ship1
			ferry connected-registry show -r home -n ship1 --query connectionState -o tsv`,
			&showOptions[api.ConnectedRegistry]{resource: connectedRegistries}, "name"),
		verb(env, "list", "List the connected registries, each followed by those below it", `
			ferry connected-registry list -r home -o table
			ferry connected-registry list -r home --parent ship1 --no-children`,
			&registryList{}),
		verb(env, "update", "Change a connected registry; the site learns of it at its next sync", `
			ferry connected-registry update -r home -n ship1 --add-client-tokens line1 line2
			ferry connected-registry update -r home -n ship1 --sync-schedule "0 2 * * *" --sync-window PT3H
			ferry connected-registry update -r home -n ship1 --byte-budget 2GiB/day --priority 'ops/*=urgent' 'media/*=low'`,
			&registryUpdate{}, "name"),
		verb(env, "get-settings", "Show what an instance needs to become a connected registry", `
			ferry connected-registry get-settings -r home -n ship1 --parent-protocol https --generate-password 1 --yes
			ferry connected-registry get-settings -r home -n ship1 --parent-protocol http --generate-password 1 --yes --query ACR_REGISTRY_CONNECTION_STRING -o tsv`,
			&registrySettings{}, "name", "parent-protocol"),
		verb(env, "sync-status", "Show what a site last said of its sync, tag by tag, also while it is offline", `
			ferry connected-registry sync-status -r home -n ship1
			ferry connected-registry sync-status -r home -n ship1 --open -o json`,
			&registrySyncStatus{}, "name"),
		verb(env, "resync", "Let a site compare all that it has with its parent, at its next visit",
			"ferry connected-registry resync -r home -n ship1", &registryResync{}, "name"),
		verb(env, "deactivate", "Release a connected registry, so that another instance can become it",
			"ferry connected-registry deactivate -r home -n ship1 --yes", &registryDeactivate{}, "name"),
		verb(env, "delete", "Delete a connected registry; what runs at the site stays as it is",
			"ferry connected-registry delete -r home -n ship1 --cleanup --yes", &registryDelete{}, "name"),
	)
}

type registryList struct {
	target
	parent     string
	noChildren bool
}

func (o *registryList) define(set *pflag.FlagSet) {
	o.target.define(set)
	textVar(set, &o.parent, "parent", "p", "NAME", "only those below this connected registry")
	set.BoolVar(&o.noChildren, "no-children", false, "only those right below the parent, or at the top")
}

func (o *registryList) run(ctx context.Context, env *Env, c *client) error {
	query := url.Values{}
	if o.parent != "" {
		query.Set("parent", o.parent)
	}
	if o.noChildren {
		query.Set("children", "direct")
	}
	all, err := pages[api.ConnectedRegistry](ctx, c, apiRoot+connectedRegistries.kind, query, "value", 0)
	if err != nil {
		return err
	}
	return showAll(env, all, registryListColumns())
}

type registryDeactivate struct {
	named
	confirmation
}

func (o *registryDeactivate) define(set *pflag.FlagSet) {
	o.named.define(set)
	o.confirmation.define(set)
}

func (o *registryDeactivate) run(ctx context.Context, env *Env, c *client) error {
	if err := o.ask(env, "Are you sure you want to deactivate the connected registry '%s'?", o.name); err != nil {
		return err
	}
	_, err := write[api.ConnectedRegistry](ctx, c, http.MethodPost, nil, connectedRegistries.kind, o.name, "deactivate")
	return err
}

type registryDelete struct {
	named
	confirmation
	cleanup bool
}

func (o *registryDelete) define(set *pflag.FlagSet) {
	o.named.define(set)
	set.BoolVar(&o.cleanup, "cleanup", false, "delete its sync token and scope map, too, and its permissions in its ancestors'")
	o.confirmation.define(set)
}

func (o *registryDelete) run(ctx context.Context, env *Env, c *client) error {
	if err := o.ask(env, "Are you sure you want to delete the connected registry '%s'?", o.name); err != nil {
		return err
	}
	left, err := c.leftovers(ctx, o.name)
	if err != nil {
		return err
	}
	query := url.Values{"cleanup": {fmt.Sprint(o.cleanup)}}
	if err := c.remove(ctx, query, connectedRegistries.kind, o.name); err != nil || o.cleanup {
		return err
	}
	fmt.Fprintf(env.Stderr, "note: its sync token and permissions are still there; to remove them:\n")
	for _, command := range left {
		fmt.Fprintf(env.Stderr, "  ferry %s -r %s\n", command, c.name)
	}
	return nil
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
		parent := lastSegment(value(own.Parent.ID))
		if parent == "" {
			break
		}
		if own, _, scopeMap, err = c.syncToken(ctx, parent); err != nil {
			return nil, err
		}
		if scopeMap != "" {
			const actions = "config/read config/write message/read message/write"
			commands = append(commands, fmt.Sprintf("scope-map update -n %s --remove-gateway %s %s", scopeMap, name, actions))
		}
	}
	return commands, nil
}

// syncToken returns a connected registry, and the names of its sync token and
// of that token's scope map; "" where there is none.
func (c *client) syncToken(ctx context.Context, name string) (
	own api.ConnectedRegistry, token, scopeMap string, err error,
) {
	r, err := get[api.ConnectedRegistry](ctx, c, connectedRegistries.kind, name)
	if err != nil {
		return own, "", "", err
	}
	own = r.value
	token = lastSegment(own.Parent.SyncProperties.TokenID)
	t, err := get[api.Token](ctx, c, tokens.kind, token)
	if r := (*refusal)(nil); errors.As(err, &r) && r.status == http.StatusNotFound {
		return own, "", "", nil
	}
	return own, token, lastSegment(t.value.ScopeMapID), err
}

// managedIdentityFlags accepts the reference's choice of how to authenticate,
// of which there is one here.
func managedIdentityFlags(set *pflag.FlagSet) {
	choiceVar(set, new(string), "auth-type", "", "SyncToken", "accepted for the reference's scripts", "SyncToken")
	set.Lookup("auth-type").Hidden = true
	ignored(set, "audit-logs-enabled", "")
	set.Lookup("audit-logs-enabled").NoOptDefVal = "true"
}
