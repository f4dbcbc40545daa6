package fleet

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/schedule"
	"ferry/internal/subscription"
	"ferry/internal/wire"
)

// defaultGC is the default schedule of garbage collection: daily, as in the reference.
const defaultGC = "0 0 * * *"

// changeSettings applies the settings in c to v. It returns an error unless the result is valid.
func changeSettings(v *wire.Spec, c api.Settings) error {
	merge(v, c)
	for _, text := range []*string{&v.Schedule, &v.SyncWindow, &v.MessageTTL, &v.GCSchedule, &v.ByteBudget,
		&v.RotatePasswordEvery} {
		*text = strings.TrimSpace(*text)
	}
	v.Platforms = control.Union(nil, v.Platforms)
	levels := []string{"Debug", "Information", "Warning", "Error", "None"}
	i := slices.IndexFunc(levels, func(l string) bool { return strings.EqualFold(l, v.LogLevel) })
	if i < 0 {
		return control.Invalid("'%.32s' is not a log level: want one of %s", v.LogLevel, strings.Join(levels, ", "))
	}
	v.LogLevel = levels[i]
	return checkSettings(v)
}

// merge sets each field of v for which the field of the same name in c has a value: a pointer or a
// list that is not nil. Labels are set one by one.
func merge(v *wire.Spec, c api.Settings) {
	to, from := reflect.ValueOf(v).Elem(), reflect.ValueOf(c)
	for i := range from.NumField() {
		if value := from.Field(i); !value.IsNil() && value.Kind() != reflect.Map {
			to.FieldByName(from.Type().Field(i).Name).Set(reflect.Indirect(value))
		}
	}
	v.Labels = mergedLabels(v.Labels, c.Labels)
}

// checkSettings returns an error unless v is valid. It removes the sync window of a continuous
// schedule, where it has no meaning.
func checkSettings(v *wire.Spec) error {
	cron, cronErr := schedule.ParseCron(v.Schedule)
	if cronErr == nil && cron.Continuous() {
		v.SyncWindow = ""
	}
	_, tagsErr := subscription.ParseTags(v.TagFilters, v.KeepLast)
	_, platformErr := subscription.ParsePlatforms(v.Platforms)
	_, priorityErr := subscription.ParsePriorities(v.Priorities)
	_, budgetErr := schedule.ParseBudget(v.ByteBudget)
	_, bandwidthErr := schedule.ParseBandwidth(v.Bandwidth)
	_, windowErr := schedule.Parse(v.Schedule, v.SyncWindow)
	_, ttlErr := schedule.ParseMessageTTL(v.MessageTTL)
	_, rotationErr := schedule.ParseRotation(v.RotatePasswordEvery)
	_, gcErr := schedule.ParseCron(v.GCSchedule)
	if gcErr != nil {
		gcErr = fmt.Errorf("garbage collection: %w", gcErr)
	}
	err := cmp.Or(tagsErr, platformErr, priorityErr, budgetErr, bandwidthErr, cronErr, windowErr, ttlErr, gcErr,
		rotationErr, checkLabels(v.Labels))
	if err != nil {
		return control.Invalid("%v", err)
	}
	return nil
}

// LongestMessageTTL returns the longest message TTL of the connected registries, and at least the
// default.
func (s *Service) LongestMessageTTL() time.Duration {
	longest, _ := schedule.ParseMessageTTL(schedule.DefaultMessageTTL) // it is valid
	state := s.control.State()
	for _, top := range state.Tops() {
		for _, r := range append(state.Below(top.Name), top) {
			if ttl, err := schedule.ParseMessageTTL(r.Settings.MessageTTL); err == nil {
				longest = max(longest, ttl)
			}
		}
	}
	return longest
}

// defaults returns the spec of a connected registry without any settings.
func defaults() control.Spec {
	return control.Spec{Spec: wire.Spec{
		Mode: api.ReadOnly, Schedule: schedule.Continuous, MessageTTL: schedule.DefaultMessageTTL,
		LogLevel: "Information", GCEnabled: true, GCSchedule: defaultGC,
	}}
}
