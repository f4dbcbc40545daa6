package cli

import (
	"context"
	"net/http"
	"reflect"

	"github.com/spf13/pflag"

	"ferry/internal/api"
)

// filterForms is what a tag filter may be, for help.
const filterForms = "a pattern as 'v1.*', a regular expression as '/^v1/', or a range of versions as '>=1.2 <2'; \"\" is every tag"

// platformsUsage says what a list of platforms does.
const platformsUsage = "of images for several platforms only what is for these, as linux/amd64 or linux/arm/v7; \"\" is every platform"

// defineSyncFlags defines the flags for the settings of a connected registry
// that can be changed after it was created.
func defineSyncFlags(set *pflag.FlagSet, s *api.Settings) {
	textOption(set, &s.Schedule, "sync-schedule", "s", "CRON", "when a sync may start: cron with five fields, in UTC (default \"* * * * *\", always in step)")
	textOption(set, &s.SyncWindow, "sync-window", "w", "DURATION", "for how long a scheduled sync may run: ISO 8601, PT1H to P7D")
	textOption(set, &s.MessageTTL, "sync-message-ttl", "", "DURATION", "how long changes wait for a site that is away: ISO 8601, P1D to P90D (default P2D)")
	choiceOption(set, &s.LogLevel, "log-level", "what the instance logs (default Information)", "Debug", "Information", "Warning", "Error", "None")
	switchOption(set, &s.GCEnabled, "gc-enabled", "true", "whether the instance removes what nothing refers to any more")
	textOption(set, &s.GCSchedule, "gc-schedule", "", "CRON", "when it does: cron with five fields, in UTC (default \"0 0 * * *\")")
	listOption(set, &s.TagFilters, "tag-filter", "FILTER...", "sync only tags that one of these matches: "+filterForms)
	numberOption(set, &s.KeepLast, "keep-last", "sync only this many tags of each repository, those that were set last; 0 is all")
	listOption(set, &s.Platforms, "platform", "PLATFORM...", platformsUsage)
	textOption(set, &s.ByteBudget, "byte-budget", "", "SIZE/PERIOD", "how much the site's syncs may fetch, as 2GiB/day or 20GiB/month, in UTC; then they wait for the next period; \"\" is no limit")
	listOption(set, &s.Bandwidth, "bandwidth", "RATE...", "what the site's syncs may take of its link: 512KiB, 2MiB, 4Mbit or unlimited, a second; HH:MM-HH:MM=RATE for a part of the day, in UTC; \"\" is no limit")
	listOption(set, &s.Priorities, "priority", "REPOSITORY=PRIORITY...", "which repositories come first, as 'ops/*=urgent': urgent, high, normal or low, the first that fits counts; urgent ones also come when the byte budget is spent; \"\" is none")
}

type registryUpdate struct {
	named
	patch api.RegistryPatch
}

func (o *registryUpdate) define(set *pflag.FlagSet) {
	o.named.define(set)
	namesVar(set, &o.patch.AddClientTokens, "add-client-tokens", "", "NAME...", "tokens that may be used at the site from now on")
	namesVar(set, &o.patch.RemoveClientTokens, "remove-client-tokens", "", "NAME...", "tokens that may be used there no more")
	namesVar(set, &o.patch.AddNotifications, "add-notifications", "", "PATTERN...", "events to report from now on")
	namesVar(set, &o.patch.RemoveNotifications, "remove-notifications", "", "PATTERN...", "events to report no more")
	defineSyncFlags(set, &o.patch.Settings)
	managedIdentityFlags(set)
}

func (o *registryUpdate) run(ctx context.Context, env *Env, c *client) error {
	if reflect.ValueOf(o.patch).IsZero() {
		return usagef("nothing to change: want a flag that says what")
	}
	return connectedRegistries.change(ctx, env, c, http.MethodPatch, o.patch, o.name)
}
