package cli

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/api"
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
			ferry connected-registry create -r home -n ship1 --repository 'factory/*' '!factory/secret' \
			--sync-schedule "30 * * * *" --sync-window PT1H
			ferry connected-registry create -r home -n cabin1 --parent ship1 --repository factory/app \
			--client-tokens line1 line2`,
			&connectedRegistryCreate{}, "name"),
		verb(env, "show", "Show a connected registry and how its last sync went", `
			ferry connected-registry show -r home -n ship1
			ferry connected-registry show -r home -n ship1 --query connectionState -o tsv`,
			&showOptions[api.ConnectedRegistry]{resource: connectedRegistries}, "name"),
		describe(verb(env, "list", "List the connected registries, each followed by its children", `
			ferry connected-registry list -r home -o table
			ferry connected-registry list -r home --parent ship1 --no-children
			ferry connected-registry list -r home --sort worst --filter 'behind>1d group:baltic' -o table`,
			&connectedRegistryList{}), `
List the connected registries, each followed by its children, or the worst
first. The table says how each stands; see also sync-status.

`+filterHelp),
		verb(env, "update", "Change a connected registry; the next sync applies it", `
			ferry connected-registry update -r home -n ship1 --add-client-tokens line1 line2
			ferry connected-registry update -r home -n ship1 --sync-schedule "0 2 * * *" --sync-window PT3H
			ferry connected-registry update -r home -n ship1 --byte-budget 2GiB/day \
			--priority 'ops/*=urgent' 'media/*=low'`,
			&connectedRegistryUpdate{}, "name"),
		verb(env, "get-settings", "Show the settings that an instance at the site needs", `
			ferry connected-registry get-settings -r home -n ship1 --parent-protocol https --generate-password 1 --yes
			ferry connected-registry get-settings -r home -n ship1 --parent-protocol http --generate-password 1 --yes \
			--query ACR_REGISTRY_CONNECTION_STRING -o tsv --to-file ship1.connection
			ferry connected-registry get-settings -r home -n ship1 --parent-protocol https --join --expires 24h \
			--query ACR_REGISTRY_CONNECTION_STRING -o tsv --to-file ship1.connection`,
			&connectedRegistrySettings{}, "name", "parent-protocol"),
		describe(verb(env, "set-credentials", "Give a running site other credentials for its parent", `
			ferry connected-registry set-credentials -r ship1 --stdin < ship1.connection
			ferry connected-registry set-credentials -r ship1 --stdin < ship1.password`,
			&setCredentials{}, "stdin"), `
Give a running site other credentials for its parent, without a restart: a
connection string, or only a password of its sync token. --registry is the site
itself. They are tried at once. If the parent refuses them, the site goes on
with those that it had.`),
		newConnectedRegistryInstallCommand(env),
		newConnectedRegistryPermissionsCommand(env),
		newConnectedRegistryRepoCommand(env),
		verb(env, "list-client-tokens", "List the tokens with which machines at the site can pull",
			"ferry connected-registry list-client-tokens -r home -n ship1 -o table", &clientTokensList{}, "name"),
		describe(verb(env, "sync-status", "Show which sites are not in sync, and why; or one site, tag by tag", `
			ferry connected-registry sync-status -r home
			ferry connected-registry sync-status -r home --filter 'state:behind,needsyou' --watch
			ferry connected-registry sync-status -r home -n ship1
			ferry connected-registry sync-status -r home -n ship1 --open -o json`,
			&connectedRegistrySyncStatus{}), `
Show which sites are not in sync, the worst first, by how much, and why. With
--name, show what that site last reported about its syncs, tag by tag, also
while it is offline. At the site itself, ferry sync status shows the current
state.

`+filterHelp),
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
		"the repositories to sync: names, team/* for all that begin with team/, or * for all; !NAME and !team/* "+
			"take out what a pattern would include")
	textVar(set, &o.put.SyncToken, "sync-token", "", "NAME",
		"instead of --repository: a token whose scope map names the repositories to sync")
	choiceVar(set, &o.put.Mode, "mode", "m", api.ReadOnly,
		"ReadOnly: clients of the site may pull. ReadWrite: they may push and delete, too, which the site sends up",
		api.ReadOnly, api.ReadWrite)
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
		"when a sync may start: cron with five fields, in UTC, such as '0 2 * * *', "+
			"which is daily at 02:00; '* * * * *' is always (default \"* * * * *\")")
	textOption(set, &s.SyncWindow, "sync-window", "w", "DURATION",
		"how long a scheduled sync may run: ISO 8601, PT1H to P7D; a schedule other than the default needs it")
	textOption(set, &s.MessageTTL, "sync-message-ttl", "", "DURATION",
		"how long deletions are remembered for a site that is offline: ISO 8601, P1D to P90D (default P2D)")
	choiceOption(set, &s.LogLevel, "log-level", "the level of the instance's log (default Information)",
		"Debug", "Information", "Warning", "Error", "None")
	switchOption(set, &s.AuditLogs, "audit-logs-enabled", "true",
		"whether the instance sends its audit log to the root: see ferry audit list --site NAME (default false)")
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
	textOption(set, &s.RotatePasswordEvery, "rotate-password-every", "", "PERIOD",
		"how often the site replaces the password with which it logs in to its parent, such as P30D; or off "+
			"(default P30D)")
	listOption(set, &s.Priorities, "priority", "REPOSITORY=PRIORITY...",
		"which repositories are fetched first, such as 'ops/*=urgent': urgent, high, normal or low. The first "+
			"entry that matches counts. Urgent ones are fetched even if the byte budget is spent; \"\" is none")
	labelsVar(set, &s.Labels, "label",
		"labels to find it by, such as group=baltic; KEY= removes one, and other labels stay as they are")
}

// managedIdentityFlags defines flags of the reference for choices that Ferry does not have.
func managedIdentityFlags(set *pflag.FlagSet) {
	const syncToken = "SyncToken"
	errIdentity := errors.New("there are no managed identities here: leave it out, and the sync token is used")
	noIdentity := func(string) error { return errIdentity }
	onlyToken := func(text string) error {
		if !strings.EqualFold(text, syncToken) {
			return errIdentity
		}
		return nil
	}
	set.Var(&flag{kind: syncToken, text: syncToken, set: onlyToken, choices: []string{syncToken}}, "auth-type",
		"accepted for the reference's scripts")
	set.Lookup("auth-type").Hidden = true
	set.Var(&flag{kind: "ID", set: noIdentity}, "identity", "not supported: a managed identity is an account in Azure")
	set.Lookup("identity").Hidden = true
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
