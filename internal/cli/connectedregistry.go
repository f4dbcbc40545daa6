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
	"connected-registries", slices.Concat(connectedRegistryListColumns, []column[api.ConnectedRegistry]{
		{title: "LAST RESULT", text: syncStateOf},
		{title: "LAST TRY (UTC)", text: func(r api.ConnectedRegistry) string {
			return timeText(value(r.RegistrySyncResult).LastSyncEndTime)
		}, rank: 2},
		{title: "SYNC SCHEDULE", text: func(r api.ConnectedRegistry) string {
			return r.Parent.SyncProperties.Schedule
		}, rank: 3},
		{title: "SYNC WINDOW", text: func(r api.ConnectedRegistry) string {
			return value(r.Parent.SyncProperties.SyncWindow)
		}, rank: 4},
	}),
}

// connectedRegistryListColumns are the columns of a list. The table of one registry has more.
var connectedRegistryListColumns = []column[api.ConnectedRegistry]{
	{title: "NAME", text: func(r api.ConnectedRegistry) string { return r.Name }},
	{title: "MODE", text: func(r api.ConnectedRegistry) string { return r.Mode }, rank: 6},
	{title: "CONNECTION STATE", text: func(r api.ConnectedRegistry) string { return r.ConnectionState }},
	{title: "PARENT", text: func(r api.ConnectedRegistry) string { return lastSegment(value(r.Parent.ID)) }, rank: 1},
	{title: "LOGIN SERVER", text: func(r api.ConnectedRegistry) string { return value(r.LoginServer).Host }, rank: 5},
	{title: "SYNC (UTC)", text: func(r api.ConnectedRegistry) string {
		text := verdictText(r.Sync)
		if r.LastActivityTime == nil { // no other column has the reason
			text += ": " + value(r.Sync.Reason)
		}
		return text
	}},
	{title: "LAST SYNC (UTC)", text: func(r api.ConnectedRegistry) string {
		return timeText(r.Parent.SyncProperties.LastSyncTime)
	}, rank: 2},
}

// syncStateOf returns the result of a connected registry's last sync and the codes of its
// status details, such as Paused.
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
			ferry connected-registry create -r home -n ship1 --repository factory/app \
			--sync-schedule "30 * * * *" --sync-window PT1H
			ferry connected-registry create -r home -n cabin1 --parent ship1 --repository factory/app \
			--client-tokens line1 line2`,
			&connectedRegistryCreate{}, "name"),
		verb(env, "show", "Show a connected registry and how its last sync went", `
			ferry connected-registry show -r home -n ship1
			ferry connected-registry show -r home -n ship1 --query connectionState -o tsv`,
			&showOptions[api.ConnectedRegistry]{resource: connectedRegistries}, "name"),
		verb(env, "list", "List the connected registries, each followed by its children", `
			ferry connected-registry list -r home -o table
			ferry connected-registry list -r home --parent ship1 --no-children`,
			&connectedRegistryList{}),
		verb(env, "update", "Change a connected registry; the next sync applies it", `
			ferry connected-registry update -r home -n ship1 --add-client-tokens line1 line2
			ferry connected-registry update -r home -n ship1 --sync-schedule "0 2 * * *" --sync-window PT3H
			ferry connected-registry update -r home -n ship1 --byte-budget 2GiB/day \
			--priority 'ops/*=urgent' 'media/*=low'`,
			&connectedRegistryUpdate{}, "name"),
		verb(env, "get-settings", "Show the settings that an instance at the site needs", `
			ferry connected-registry get-settings -r home -n ship1 --parent-protocol https --generate-password 1 --yes
			ferry connected-registry get-settings -r home -n ship1 --parent-protocol http --generate-password 1 --yes \
			--query ACR_REGISTRY_CONNECTION_STRING -o tsv --to-file ship1.connection`,
			&connectedRegistrySettings{}, "name", "parent-protocol"),
		describe(verb(env, "sync-status", "Show what a site last reported about its syncs, tag by tag", `
			ferry connected-registry sync-status -r home -n ship1
			ferry connected-registry sync-status -r home -n ship1 --open -o json`,
			&connectedRegistrySyncStatus{}, "name"), `
Show what a site last reported about its syncs, tag by tag, also while it is
offline. At the site itself, ferry sync status shows the current state.`),
		describe(verb(env, "resync", "Make a site compare all of its content with its parent", `
			ferry connected-registry resync -r home -n ship1
			ferry connected-registry resync -r home -n ship1 --verify`,
			&connectedRegistryResync{}, "name"), `
Make a site compare all of its content with its parent, at its next connection.`),
		describe(verb(env, "deactivate", "Release a connected registry for another instance",
			"ferry connected-registry deactivate -r home -n ship1 --yes", &confirmed{do: deactivate,
				question: "Are you sure you want to deactivate the connected registry '%s'?"}, "name"), `
Release a connected registry from its instance, so that another instance can
activate it. The former instance can no longer sync; it keeps its content.`),
		describe(verb(env, "delete", "Delete a connected registry",
			"ferry connected-registry delete -r home -n ship1 --cleanup --yes", &connectedRegistryDelete{}, "name"), `
Delete a connected registry. Its instance at the site can no longer sync; it
keeps its content and goes on serving it.`),
	)
}

type connectedRegistryCreate struct {
	named
	confirmation // accepted for the reference's scripts; nothing is asked
	put          api.RegistryPut
}

func (o *connectedRegistryCreate) define(set *pflag.FlagSet) {
	o.named.define(set)
	namesVar(set, &o.put.Repositories, "repository", "", "NAME...",
		"the repositories to sync: names, team/* for all that begin with team/, or * for all")
	textVar(set, &o.put.SyncToken, "sync-token", "", "NAME",
		"instead of --repository: a token whose scope map names the repositories to sync")
	choiceVar(set, &o.put.Mode, "mode", "m", api.ReadOnly,
		"ReadOnly: clients of the site may pull. ReadWrite is not implemented yet", api.ReadOnly, api.ReadWrite)
	textVar(set, &o.put.Parent, "parent", "p", "NAME",
		"the connected registry that it syncs from (default this registry itself)")
	namesVar(set, &o.put.ClientTokens, "client-tokens", "", "NAME...",
		"tokens with which machines at the site can pull")
	namesVar(set, &o.put.Notifications, "notifications", "", "PATTERN...",
		"events to report, such as app/*:push or app:1.0:*")
	defineSyncFlags(set, &o.put.Settings)
	o.confirmation.define(set)
	managedIdentityFlags(set)
}

func (o *connectedRegistryCreate) run(ctx context.Context, env *Env, c *client) error {
	if (o.put.SyncToken == "") == (len(o.put.Repositories) == 0) {
		return usagef("either --sync-token or --repository must be provided, but not both")
	}
	return connectedRegistries.change(ctx, env, c, http.MethodPut, o.put, o.name)
}

// filterForms says in help how to write a tag filter.
const filterForms = "a pattern such as 'v1.*', a regular expression such as '/^v1/', or a range of versions " +
	"such as '>=1.2 <2'; with '!' before it, a filter excludes the tags that it matches; \"\" is every tag"

// platformsUsage is the help of --platform.
const platformsUsage = "copy only these platforms of an image that has several, such as linux/amd64 or " +
	"linux/arm/v7; \"\" is every platform"

// defineSyncFlags defines the flags for those settings of a connected registry that can be
// changed later.
func defineSyncFlags(set *pflag.FlagSet, s *api.Settings) {
	textOption(set, &s.Schedule, "sync-schedule", "s", "CRON",
		"when a sync may start: cron with five fields, in UTC (default \"* * * * *\", which is always)")
	textOption(set, &s.SyncWindow, "sync-window", "w", "DURATION",
		"how long a scheduled sync may run: ISO 8601, PT1H to P7D; a schedule other than the default needs it")
	textOption(set, &s.MessageTTL, "sync-message-ttl", "", "DURATION",
		"how long deletions are remembered for a site that is offline: ISO 8601, P1D to P90D (default P2D)")
	choiceOption(set, &s.LogLevel, "log-level", "the level of the instance's log (default Information)",
		"Debug", "Information", "Warning", "Error", "None")
	switchOption(set, &s.GCEnabled, "gc-enabled", "true",
		"whether the instance deletes content that nothing references any more")
	textOption(set, &s.GCSchedule, "gc-schedule", "", "CRON",
		"when it deletes such content: cron with five fields, in UTC (default \"0 0 * * *\")")
	listOption(set, &s.TagFilters, "tag-filter", "FILTER...",
		"sync only tags that match one of these filters: "+filterForms)
	numberOption(set, &s.KeepLast, "keep-last",
		"sync only this many tags of each repository, the newest; 0 is all")
	listOption(set, &s.Platforms, "platform", "PLATFORM...", platformsUsage)
	textOption(set, &s.ByteBudget, "byte-budget", "", "SIZE/PERIOD",
		"how much the site's syncs may fetch in a day or a month (UTC), such as 2GiB/day or 20GiB/month; "+
			"after that they wait for the next period; \"\" is no limit")
	listOption(set, &s.Bandwidth, "bandwidth", "RATE...",
		"how much of its link the site's syncs may use in a second: 512KiB, 2MiB, 4Mbit or unlimited; "+
			"HH:MM-HH:MM=RATE is for a part of the day, in UTC; \"\" is no limit")
	listOption(set, &s.Priorities, "priority", "REPOSITORY=PRIORITY...",
		"which repositories are fetched first, such as 'ops/*=urgent': urgent, high, normal or low. The first "+
			"entry that matches counts. Urgent ones are fetched even if the byte budget is spent; \"\" is none")
}

// managedIdentityFlags defines flags of the reference for choices that Ferry does not have.
func managedIdentityFlags(set *pflag.FlagSet) {
	choiceVar(set, new(string), "auth-type", "", "SyncToken", "accepted for the reference's scripts", "SyncToken")
	set.Lookup("auth-type").Hidden = true
	ignored(set, "audit-logs-enabled", "")
	set.Lookup("audit-logs-enabled").NoOptDefVal = "true"
}

type connectedRegistryList struct {
	target
	parent     string
	noChildren bool
}

func (o *connectedRegistryList) define(set *pflag.FlagSet) {
	o.target.define(set)
	textVar(set, &o.parent, "parent", "p", "NAME", "only the descendants of this connected registry")
	set.BoolVar(&o.noChildren, "no-children", false,
		"only direct children: of --parent, or of this registry")
}

func (o *connectedRegistryList) run(ctx context.Context, env *Env, c *client) error {
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
	return showAll(env, all, connectedRegistryListColumns)
}

type connectedRegistryUpdate struct {
	named
	patch api.RegistryPatch
}

func (o *connectedRegistryUpdate) define(set *pflag.FlagSet) {
	o.named.define(set)
	namesVar(set, &o.patch.AddClientTokens, "add-client-tokens", "", "NAME...",
		"tokens with which machines at the site can pull from now on")
	namesVar(set, &o.patch.RemoveClientTokens, "remove-client-tokens", "", "NAME...",
		"tokens that may be used there no more")
	namesVar(set, &o.patch.AddNotifications, "add-notifications", "", "PATTERN...", "events to report from now on")
	namesVar(set, &o.patch.RemoveNotifications, "remove-notifications", "", "PATTERN...", "events to report no more")
	defineSyncFlags(set, &o.patch.Settings)
	managedIdentityFlags(set)
}

func (o *connectedRegistryUpdate) run(ctx context.Context, env *Env, c *client) error {
	return connectedRegistries.patch(ctx, env, c, o.patch, o.name, "a flag with a new setting")
}

type connectedRegistrySettings struct {
	named
	confirmation
	protocol string
	generate string // the number of the password; "" is none
}

func (o *connectedRegistrySettings) define(set *pflag.FlagSet) {
	o.named.define(set)
	choiceVar(set, &o.protocol, "parent-protocol", "", "",
		"the protocol between the site and its parent", "http", "https")
	choiceVar(set, &o.generate, "generate-password", "", "",
		"make a new first or second password for the sync token; without it, the connection string has none", "1", "2")
	o.confirmation.define(set)
}

func (o *connectedRegistrySettings) run(ctx context.Context, env *Env, c *client) error {
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

type connectedRegistryResync struct {
	named
	verify bool
}

func (o *connectedRegistryResync) define(set *pflag.FlagSet) {
	o.named.define(set)
	set.BoolVar(&o.verify, "verify", false,
		"also make the site read all of its content, and fetch damaged content again")
}

func (o *connectedRegistryResync) run(ctx context.Context, env *Env, c *client) error {
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

type connectedRegistryDelete struct {
	named
	confirmation
	cleanup bool
}

func (o *connectedRegistryDelete) define(set *pflag.FlagSet) {
	o.named.define(set)
	set.BoolVar(&o.cleanup, "cleanup", false,
		"also delete its sync token, its scope map, and its permissions in the scope maps of its ancestors")
	o.confirmation.define(set)
}

func (o *connectedRegistryDelete) run(ctx context.Context, env *Env, c *client) error {
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

// leftovers returns the commands that delete what a deleted connected registry leaves
// behind: its sync token, the token's scope map, and the permissions on its gateway in the
// scope maps of its ancestors.
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
