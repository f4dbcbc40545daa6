package fleet

import (
	"slices"
	"strings"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/schedule"
	"ferry/internal/subscription"
)

// defaultGC is once a day, as in the reference.
const defaultGC = "0 0 * * *"

// apply sets what is given, and returns an error unless v is valid then.
func applySettings(c api.Settings, v *control.Spec) error {
	set := func(to *string, from *string) {
		if from != nil {
			*to = strings.TrimSpace(*from)
		}
	}
	set(&v.Schedule, c.SyncSchedule)
	set(&v.SyncWindow, c.SyncWindow)
	set(&v.MessageTTL, c.SyncMessageTTL)
	set(&v.GCSchedule, c.GCSchedule)
	set(&v.ByteBudget, c.ByteBudget)
	if c.GCEnabled != nil {
		v.GCEnabled = *c.GCEnabled
	}
	if c.TagFilters != nil {
		v.TagFilters = slices.Clone(*c.TagFilters)
	}
	if c.KeepLast != nil {
		v.KeepLast = *c.KeepLast
	}
	if _, err := subscription.Parse(v.TagFilters, v.KeepLast); err != nil {
		return control.Invalid("%v", err)
	}
	if c.Platforms != nil {
		v.Platforms = control.Union(nil, *c.Platforms)
	}
	if _, err := subscription.ParsePlatforms(v.Platforms); err != nil {
		return control.Invalid("%v", err)
	}
	if c.Bandwidth != nil {
		v.Bandwidth = slices.Clone(*c.Bandwidth)
	}
	if c.Priorities != nil {
		v.Priorities = slices.Clone(*c.Priorities)
	}
	if _, err := subscription.ParsePriorities(v.Priorities); err != nil {
		return control.Invalid("%v", err)
	}
	if _, err := schedule.ParseBudget(v.ByteBudget); err != nil {
		return control.Invalid("%v", err)
	}
	if _, err := schedule.ParseBandwidth(v.Bandwidth); err != nil {
		return control.Invalid("%v", err)
	}
	cron, err := schedule.ParseCron(v.Schedule)
	if err != nil {
		return control.Invalid("%v", err)
	}
	if cron.Continuous() {
		v.SyncWindow = "" // it would mean nothing
	}
	if _, err := schedule.Parse(v.Schedule, v.SyncWindow); err != nil {
		return control.Invalid("%v", err)
	}
	if _, err := schedule.ParseMessageTTL(v.MessageTTL); err != nil {
		return control.Invalid("%v", err)
	}
	if _, err := schedule.ParseCron(v.GCSchedule); err != nil {
		return control.Invalid("garbage collection: %v", err)
	}
	if c.LogLevel != nil {
		levels := []string{"Debug", "Information", "Warning", "Error", "None"}
		i := slices.IndexFunc(levels, func(l string) bool { return strings.EqualFold(l, *c.LogLevel) })
		if i < 0 {
			return control.Invalid("'%.32s' is no log level: want one of %s", *c.LogLevel, strings.Join(levels, ", "))
		}
		v.LogLevel = levels[i]
	}
	return nil
}

// defaults is the spec of a connected registry of which nothing was said.
func defaults() control.Spec {
	return control.Spec{
		Mode: api.ReadOnly, Schedule: schedule.Continuous, MessageTTL: schedule.DefaultMessageTTL,
		LogLevel: "Information", GCEnabled: true, GCSchedule: defaultGC,
	}
}
