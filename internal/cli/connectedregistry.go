package cli

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/api"
	"ferry/internal/terminal"
)

var connectedRegistries = resource[api.ConnectedRegistry]{
	"connected-registries", slices.Concat(registryListColumns, []column[api.ConnectedRegistry]{
		{title: "LAST RESULT", text: syncStateOf},
		{title: "LAST TRY (UTC)", text: func(r api.ConnectedRegistry) string {
			return seconds(value(r.RegistrySyncResult).LastSyncEndTime)
		}, rank: 2},
		{title: "SYNC SCHEDULE", text: func(r api.ConnectedRegistry) string {
			return r.Parent.SyncProperties.Schedule
		}, rank: 3},
		{title: "SYNC WINDOW", text: func(r api.ConnectedRegistry) string {
			return value(r.Parent.SyncProperties.SyncWindow)
		}, rank: 4},
	}),
}

// registryListColumns are those of a list. One registry alone has more.
var registryListColumns = []column[api.ConnectedRegistry]{
	{title: "NAME", text: func(r api.ConnectedRegistry) string { return r.Name }},
	{title: "MODE", text: func(r api.ConnectedRegistry) string { return r.Mode }, rank: 6},
	{title: "CONNECTION STATE", text: func(r api.ConnectedRegistry) string { return r.ConnectionState }},
	{title: "PARENT", text: func(r api.ConnectedRegistry) string { return lastSegment(value(r.Parent.ID)) }, rank: 1},
	{title: "LOGIN SERVER", text: func(r api.ConnectedRegistry) string { return value(r.LoginServer).Host }, rank: 5},
	{title: "SYNC (UTC)", text: func(r api.ConnectedRegistry) string {
		text := verdictOf(r.Sync)
		if r.LastActivityTime == nil { // no other column says why
			text += ": " + value(r.Sync.Reason)
		}
		return text
	}},
	{title: "LAST SYNC (UTC)", text: func(r api.ConnectedRegistry) string {
		return seconds(r.Parent.SyncProperties.LastSyncTime)
	}, rank: 2},
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
			ferry connected-registry get-settings -r home -n ship1 --parent-protocol http --generate-password 1 --yes --query ACR_REGISTRY_CONNECTION_STRING -o tsv --to-file ship1.connection`,
			&registrySettings{}, "name", "parent-protocol"),
		verb(env, "sync-status", "Show what a site last said of its sync, tag by tag, also while it is offline", `
			ferry connected-registry sync-status -r home -n ship1
			ferry connected-registry sync-status -r home -n ship1 --open -o json`,
			&registrySyncStatus{}, "name"),
		verb(env, "resync", "Let a site compare all that it has with its parent, at its next visit", `
			ferry connected-registry resync -r home -n ship1
			ferry connected-registry resync -r home -n ship1 --verify`,
			&registryResync{}, "name"),
		verb(env, "deactivate", "Release a connected registry, so that another instance can become it",
			"ferry connected-registry deactivate -r home -n ship1 --yes", &confirmed{do: deactivate,
				question: "Are you sure you want to deactivate the connected registry '%s'?"}, "name"),
		verb(env, "delete", "Delete a connected registry; what runs at the site stays as it is",
			"ferry connected-registry delete -r home -n ship1 --cleanup --yes", &registryDelete{}, "name"),
	)
}

type registryCreate struct {
	named
	confirmation // the reference asks before it opens an endpoint, which there is no need for here
	put          api.RegistryPut
}

func (o *registryCreate) define(set *pflag.FlagSet) {
	o.named.define(set)
	namesVar(set, &o.put.Repositories, "repository", "", "NAME...", "the repositories to sync")
	textVar(set, &o.put.SyncToken, "sync-token", "", "NAME",
		"instead of --repository: a token whose scope map says what to sync")
	choiceVar(set, &o.put.Mode, "mode", "m", api.ReadOnly,
		"ReadOnly: clients of the site may pull. ReadWrite is not there yet", api.ReadOnly, api.ReadWrite)
	textVar(set, &o.put.Parent, "parent", "p", "NAME",
		"the connected registry to be below (default this registry itself)")
	namesVar(set, &o.put.ClientTokens, "client-tokens", "", "NAME...", "tokens that may be used at the site")
	namesVar(set, &o.put.Notifications, "notifications", "", "PATTERN...",
		"events to report, as app/*:push or app:1.0:*")
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

// filterForms is what a tag filter may be, for help.
const filterForms = "a pattern as 'v1.*', a regular expression as '/^v1/', or a range of versions as '>=1.2 <2'; '!' before one leaves out what it matches; \"\" is every tag"

// platformsUsage says what a list of platforms does.
const platformsUsage = "of images for several platforms only what is for these, as linux/amd64 or linux/arm/v7; \"\" is every platform"

// defineSyncFlags defines the flags for the settings of a connected registry
// that can be changed after it was created.
func defineSyncFlags(set *pflag.FlagSet, s *api.Settings) {
	textOption(set, &s.Schedule, "sync-schedule", "s", "CRON",
		"when a sync may start: cron with five fields, in UTC (default \"* * * * *\", always in step)")
	textOption(set, &s.SyncWindow, "sync-window", "w", "DURATION",
		"for how long a scheduled sync may run: ISO 8601, PT1H to P7D")
	textOption(set, &s.MessageTTL, "sync-message-ttl", "", "DURATION",
		"how long changes wait for a site that is away: ISO 8601, P1D to P90D (default P2D)")
	choiceOption(set, &s.LogLevel, "log-level", "what the instance logs (default Information)", "Debug", "Information",
		"Warning", "Error", "None")
	switchOption(set, &s.GCEnabled, "gc-enabled", "true",
		"whether the instance removes what nothing refers to any more")
	textOption(set, &s.GCSchedule, "gc-schedule", "", "CRON",
		"when it does: cron with five fields, in UTC (default \"0 0 * * *\")")
	listOption(set, &s.TagFilters, "tag-filter", "FILTER...", "sync only tags that one of these matches: "+filterForms)
	numberOption(set, &s.KeepLast, "keep-last",
		"sync only this many tags of each repository, those that were set last; 0 is all")
	listOption(set, &s.Platforms, "platform", "PLATFORM...", platformsUsage)
	textOption(set, &s.ByteBudget, "byte-budget", "", "SIZE/PERIOD",
		"how much the site's syncs may fetch, as 2GiB/day or 20GiB/month, in UTC; then they wait for the next period; \"\" is no limit")
	listOption(set, &s.Bandwidth, "bandwidth", "RATE...",
		"what the site's syncs may take of its link: 512KiB, 2MiB, 4Mbit or unlimited, a second; HH:MM-HH:MM=RATE for a part of the day, in UTC; \"\" is no limit")
	listOption(set, &s.Priorities, "priority", "REPOSITORY=PRIORITY...",
		"which repositories come first, as 'ops/*=urgent': urgent, high, normal or low, the first that fits counts; urgent ones also come when the byte budget is spent; \"\" is none")
}

// managedIdentityFlags accepts the reference's choice of how to authenticate,
// of which there is one here.
func managedIdentityFlags(set *pflag.FlagSet) {
	choiceVar(set, new(string), "auth-type", "", "SyncToken", "accepted for the reference's scripts", "SyncToken")
	set.Lookup("auth-type").Hidden = true
	ignored(set, "audit-logs-enabled", "")
	set.Lookup("audit-logs-enabled").NoOptDefVal = "true"
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
	all, err := pages[api.ConnectedRegistry](ctx, c, api.Root+"/"+connectedRegistries.kind, query, "value", 0)
	if err != nil {
		return err
	}
	return showAll(env, all, registryListColumns)
}

type registryUpdate struct {
	named
	patch api.RegistryPatch
}

func (o *registryUpdate) define(set *pflag.FlagSet) {
	o.named.define(set)
	namesVar(set, &o.patch.AddClientTokens, "add-client-tokens", "", "NAME...",
		"tokens that may be used at the site from now on")
	namesVar(set, &o.patch.RemoveClientTokens, "remove-client-tokens", "", "NAME...",
		"tokens that may be used there no more")
	namesVar(set, &o.patch.AddNotifications, "add-notifications", "", "PATTERN...", "events to report from now on")
	namesVar(set, &o.patch.RemoveNotifications, "remove-notifications", "", "PATTERN...", "events to report no more")
	defineSyncFlags(set, &o.patch.Settings)
	managedIdentityFlags(set)
}

func (o *registryUpdate) run(ctx context.Context, env *Env, c *client) error {
	return connectedRegistries.patch(ctx, env, c, o.patch, o.name, "a flag that says what")
}

type registrySettings struct {
	named
	confirmation
	protocol string
	generate string // which password; "" is none
}

func (o *registrySettings) define(set *pflag.FlagSet) {
	o.named.define(set)
	choiceVar(set, &o.protocol, "parent-protocol", "", "", "how the instance reaches its parent", "http", "https")
	choiceVar(set, &o.generate, "generate-password", "", "", "make a new password for the sync token, in this slot",
		"1", "2")
	o.confirmation.define(set)
}

func (o *registrySettings) run(ctx context.Context, env *Env, c *client) error {
	post := api.SettingsPost{ParentProtocol: o.protocol}
	if o.generate != "" {
		err := o.ask(env, "Are you sure you want to generate the password%s of the sync token of '%s'? "+
			"An instance that uses it must be given the new one.", o.generate, o.name)
		if err != nil {
			return err
		}
		post.GeneratePassword = int(o.generate[0] - '0')
	}
	settings, err := write[api.InstanceSettings](ctx, c, http.MethodPost, post, connectedRegistries.kind, o.name,
		"settings")
	if err != nil {
		return err
	}
	if o.generate != "" {
		env.warnShownOnce()
	}
	if strings.Contains(settings.value.ConnectionString, "=<parent gateway endpoint>") {
		fmt.Fprintln(env.Stderr, "note: the root does not know the address of the parent at the site; "+
			"write its host:port in the place of <parent gateway endpoint>")
	}
	return env.print(settings.raw)
}

type registryResync struct {
	named
	verify bool
}

func (o *registryResync) define(set *pflag.FlagSet) {
	o.named.define(set)
	set.BoolVar(&o.verify, "verify", false, "let it read all that it has again, too, and fetch again what is damaged")
}

func (o *registryResync) run(ctx context.Context, env *Env, c *client) error {
	resync := call{method: http.MethodPost, path: resourcePath(connectedRegistries.kind, o.name, "resync")}
	if o.verify {
		resync.query = url.Values{"verify": {"true"}}
	}
	v, err := ask[api.ConnectedRegistry](ctx, c, resync)
	if err != nil {
		return err
	}
	return show(env, v, connectedRegistries.columns)
}

func deactivate(ctx context.Context, c *client, name string) error {
	_, err := write[api.ConnectedRegistry](ctx, c, http.MethodPost, nil, connectedRegistries.kind, name, "deactivate")
	return err
}

type registryDelete struct {
	named
	confirmation
	cleanup bool
}

func (o *registryDelete) define(set *pflag.FlagSet) {
	o.named.define(set)
	set.BoolVar(&o.cleanup, "cleanup", false,
		"delete its sync token and scope map, too, and its permissions in its ancestors'")
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
		fmt.Fprintf(env.Stderr, "  ferry %s -r %s\n", terminal.Printable(command), c.name)
	}
	return nil
}

// maxAncestors bounds the way up from a connected registry to the root.
const maxAncestors = 100

// leftovers returns the commands that remove what outlives a connected
// registry: its sync token, that token's scope map, and what the scope maps
// of its ancestors have for its gateway.
func (c *client) leftovers(ctx context.Context, name string) (commands []string, err error) {
	at := name
	for range maxAncestors {
		r, err := get[api.ConnectedRegistry](ctx, c, connectedRegistries.kind, at)
		if err != nil {
			return nil, err
		}
		token := lastSegment(r.value.Parent.SyncProperties.TokenID)
		t, err := get[api.Token](ctx, c, tokens.kind, token)
		if err != nil && statusOf(err) != http.StatusNotFound {
			return nil, err
		}
		if err == nil && at == name {
			commands = append(commands, "token delete --yes -n "+token)
		}
		switch scopeMap := lastSegment(t.value.ScopeMapID); {
		case scopeMap == "":
		case at == name:
			commands = append(commands, "scope-map delete --yes -n "+scopeMap)
		default:
			const actions = "config/read config/write message/read message/write"
			commands = append(commands, "scope-map update -n "+scopeMap+" --remove-gateway "+name+" "+actions)
		}
		if at = lastSegment(value(r.value.Parent.ID)); at == "" {
			break
		}
	}
	return commands, nil
}
