package cli

import (
	"context"
	"net/http"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// syncFlags are the settings of a connected registry that can be changed
// after it was created.
type syncFlags struct {
	set       *pflag.FlagSet
	logLevel  *choiceFlag
	gcEnabled bool
	keepLast  int
	lists     listFlags
}

// filterForms is what a tag filter may be, for help.
const filterForms = "a pattern as 'v1.*', a regular expression as '/^v1/', or a range of versions as '>=1.2 <2'; \"\" is every tag"

// platformsUsage says what a list of platforms does.
const platformsUsage = "of images for several platforms only what is for these, as linux/amd64 or linux/arm/v7; \"\" is every platform"

func defineSyncFlags(set *pflag.FlagSet) *syncFlags {
	s := &syncFlags{set: set, lists: listFlags{}}
	textVar(set, new(string), "sync-schedule", "s", "CRON", "when a sync may start: cron with five fields, in UTC (default \"* * * * *\", always in step)")
	textVar(set, new(string), "sync-window", "w", "DURATION", "for how long a scheduled sync may run: ISO 8601, PT1H to P7D")
	textVar(set, new(string), "sync-message-ttl", "", "DURATION", "how long changes wait for a site that is away: ISO 8601, P1D to P90D (default P2D)")
	s.logLevel = choiceVar(set, "log-level", "", "", "what the instance logs (default Information)", "Debug", "Information", "Warning", "Error", "None")
	set.BoolVar(&s.gcEnabled, "gc-enabled", true, "whether the instance removes what nothing refers to any more")
	textVar(set, new(string), "gc-schedule", "", "CRON", "when it does: cron with five fields, in UTC (default \"0 0 * * *\")")
	s.lists["tagFilters"] = listVar(set, "tag-filter", "FILTER...", "sync only tags that one of these matches: "+filterForms)
	set.IntVar(&s.keepLast, "keep-last", 0, "sync only this many tags of each repository, those that were set last; 0 is all")
	s.lists["platforms"] = listVar(set, "platform", "PLATFORM...", platformsUsage)
	textVar(set, new(string), "byte-budget", "", "SIZE/PERIOD", "how much the site's syncs may fetch, as 2GiB/day or 20GiB/month, in UTC; then they wait for the next period; \"\" is no limit")
	s.lists["bandwidth"] = listVar(set, "bandwidth", "RATE...", "what the site's syncs may take of its link: 512KiB, 2MiB, 4Mbit or unlimited, a second; HH:MM-HH:MM=RATE for a part of the day, in UTC; \"\" is no limit")
	s.lists["priorities"] = listVar(set, "priority", "REPOSITORY=PRIORITY...", "which repositories come first, as 'ops/*=urgent': urgent, high, normal or low, the first that fits counts; urgent ones also come when the byte budget is spent; \"\" is none")
	return s
}

// changes returns the settings that were given, as the management API names them.
func (s *syncFlags) changes() map[string]any {
	body := s.lists.changes()
	for flag, key := range map[string]string{
		"sync-schedule": "syncSchedule", "sync-window": "syncWindow", "sync-message-ttl": "syncMessageTtl",
		"log-level": "logLevel", "gc-schedule": "gcSchedule", "byte-budget": "byteBudget",
	} {
		if s.set.Changed(flag) {
			body[key] = s.set.Lookup(flag).Value.String()
		}
	}
	if s.set.Changed("gc-enabled") {
		body["gcEnabled"] = s.gcEnabled
	}
	if s.set.Changed("keep-last") {
		body["keepLast"] = s.keepLast
	}
	return body
}

// listFlags are lists by the names that the management API has for them.
type listFlags map[string]*listFlag

// changes returns the lists that were given. An empty value stands for an
// empty list.
func (l listFlags) changes() map[string]any {
	body := map[string]any{}
	for key, f := range l {
		if len(f.groups) > 0 {
			body[key] = slices.DeleteFunc(append([]string{}, f.values()...), func(v string) bool { return v == "" })
		}
	}
	return body
}

func newConnectedRegistryUpdateCommand(env *Env) *cobra.Command {
	var name string
	var sync *syncFlags
	lists := map[string]*listFlag{}
	cmd := resourceVerb(env, &name, "update", "Change a connected registry; the site learns of it at its next sync", `
		ferry connected-registry update -r home -n ship1 --add-client-tokens line1 line2
		ferry connected-registry update -r home -n ship1 --sync-schedule "0 2 * * *" --sync-window PT3H
		ferry connected-registry update -r home -n ship1 --byte-budget 2GiB/day --priority 'ops/*=urgent' 'media/*=low'`,
		func(ctx context.Context, c *client) error {
			body := sync.changes()
			for key, list := range lists {
				if len(list.groups) > 0 {
					body[key] = list.values()
				}
			}
			if len(body) == 0 {
				return usagef("nothing to change: want a flag that says what")
			}
			v, err := c.resource(ctx, http.MethodPatch, connectedRegistries, name, body)
			if err != nil {
				return err
			}
			return env.print(v, connectedRegistryDetail())
		})
	flags := cmd.Flags()
	lists["addClientTokens"] = listVar(flags, "add-client-tokens", "NAME...", "tokens that may be used at the site from now on")
	lists["removeClientTokens"] = listVar(flags, "remove-client-tokens", "NAME...", "tokens that may be used there no more")
	lists["addNotifications"] = listVar(flags, "add-notifications", "PATTERN...", "events to report from now on")
	lists["removeNotifications"] = listVar(flags, "remove-notifications", "PATTERN...", "events to report no more")
	sync = defineSyncFlags(flags)
	managedIdentityFlags(flags)
	return cmd
}
