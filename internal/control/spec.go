package control

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"ferry/internal/metadb"
	"ferry/internal/schedule"
	"ferry/internal/subscription"
)

// A spec is what the root decided for a connected registry, as its row keeps it.
type spec struct {
	Mode          string   `json:"mode"`
	Schedule      string   `json:"schedule"`
	SyncWindow    string   `json:"syncWindow,omitempty"`
	MessageTTL    string   `json:"messageTtl"`
	ClientTokens  []string `json:"clientTokens,omitempty"`
	LogLevel      string   `json:"logLevel"`
	GCEnabled     bool     `json:"gcEnabled"`
	GCSchedule    string   `json:"gcSchedule"`
	Notifications []string `json:"notifications,omitempty"`
	TagFilters    []string `json:"tagFilters,omitempty"`
	KeepLast      int      `json:"keepLast,omitempty"`
	Platforms     []string `json:"platforms,omitempty"`
	Bandwidth     []string `json:"bandwidth,omitempty"`
	ByteBudget    string   `json:"byteBudget,omitempty"`
	Priorities    []string `json:"priorities,omitempty"`
	Permissions   []string `json:"permissions,omitempty"` // as the parent said; a root reads the scope map
	Epoch         int64    `json:"epoch,omitempty"`       // counts deactivations
	Resync        int64    `json:"resync,omitempty"`      // counts how often a fresh snapshot was asked for
}

// defaultGC is once a day, as in the reference.
const defaultGC = "0 0 * * *"

func specOf(row metadb.ConnectedRegistry) (spec, error) {
	var v spec
	if err := json.Unmarshal(row.Spec, &v); err != nil {
		return spec{}, fmt.Errorf("read connected registry %s: %w", row.Name, err)
	}
	return v, nil
}

func putSpec(tx *metadb.Tx, row metadb.ConnectedRegistry, v spec) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	row.Spec = text
	return tx.PutConnectedRegistry(row)
}

// Settings are what of a connected registry can be changed later.
type Settings struct {
	SyncSchedule   *string `json:"syncSchedule,omitempty" maxLength:"256" doc:"Cron with five fields, in UTC; * * * * * is continuous, and the default."`
	SyncWindow     *string `json:"syncWindow,omitempty" maxLength:"64" doc:"ISO 8601, PT1H to P7D; required with a schedule that is not continuous."`
	SyncMessageTTL *string `json:"syncMessageTtl,omitempty" maxLength:"64" doc:"ISO 8601, P1D to P90D; the default is P2D."`
	LogLevel       *string `json:"logLevel,omitempty" maxLength:"32" doc:"Debug, Information, Warning, Error or None; the default is Information."`
	GCEnabled      *bool   `json:"gcEnabled,omitempty" doc:"The default is true."`
	GCSchedule     *string `json:"gcSchedule,omitempty" maxLength:"256" doc:"Cron with five fields, in UTC; the default is 0 0 * * *."`

	TagFilters *[]string `json:"tagFilters,omitempty" maxItems:"50" doc:"Only tags that one of these matches: a pattern as v1.*, a regular expression as /^v1/, a range of versions as >=1.2 <2. Empty is every tag, which is the default."`
	KeepLast   *int      `json:"keepLast,omitempty" minimum:"0" maximum:"1000" doc:"Only this many tags of each repository, those that were set last; 0 is all, which is the default."`
	Platforms  *[]string `json:"platforms,omitempty" maxItems:"20" doc:"Of indexes only what is for one of these platforms, as linux/amd64 or linux/arm64/v8, and what is for none. Empty is every platform, which is the default."`
	ByteBudget *string   `json:"byteBudget,omitempty" maxLength:"64" doc:"How much the site's syncs may fetch of layers, as 2GiB/day or 20GiB/month, in UTC; once that is spent they wait for the next, but for urgent repositories. Empty is no limit, which is the default."`
	Bandwidth  *[]string `json:"bandwidth,omitempty" maxItems:"24" doc:"What the site's syncs may take of its link: a rate as 2MiB or 4Mbit, or HH:MM-HH:MM=RATE in UTC; the first that fits counts. Empty is no limit, which is the default."`
	Priorities *[]string `json:"priorities,omitempty" maxItems:"50" doc:"Which repositories come first, as ops/*=urgent or media/*=low: urgent, high, normal or low; the first that fits counts, and what none fits is normal. Urgent ones also come when the byte budget is spent."`
}

// apply sets what is given, and returns an error unless v is valid then.
func (c Settings) apply(v *spec) error {
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
		return invalid("%v", err)
	}
	if c.Platforms != nil {
		v.Platforms = unite(nil, *c.Platforms)
	}
	if _, err := subscription.ParsePlatforms(v.Platforms); err != nil {
		return invalid("%v", err)
	}
	if c.Bandwidth != nil {
		v.Bandwidth = slices.Clone(*c.Bandwidth)
	}
	if c.Priorities != nil {
		v.Priorities = slices.Clone(*c.Priorities)
	}
	if _, err := subscription.ParsePriorities(v.Priorities); err != nil {
		return invalid("%v", err)
	}
	if _, err := schedule.ParseBudget(v.ByteBudget); err != nil {
		return invalid("%v", err)
	}
	if _, err := schedule.ParseBandwidth(v.Bandwidth); err != nil {
		return invalid("%v", err)
	}
	cron, err := schedule.ParseCron(v.Schedule)
	if err != nil {
		return invalid("%v", err)
	}
	if cron.Continuous() {
		v.SyncWindow = "" // it would mean nothing
	}
	if _, err := schedule.Parse(v.Schedule, v.SyncWindow); err != nil {
		return invalid("%v", err)
	}
	if _, err := schedule.ParseMessageTTL(v.MessageTTL); err != nil {
		return invalid("%v", err)
	}
	if _, err := schedule.ParseCron(v.GCSchedule); err != nil {
		return invalid("garbage collection: %v", err)
	}
	if c.LogLevel != nil {
		levels := []string{"Debug", "Information", "Warning", "Error", "None"}
		i := slices.IndexFunc(levels, func(l string) bool { return strings.EqualFold(l, *c.LogLevel) })
		if i < 0 {
			return invalid("'%.32s' is no log level: want one of %s", *c.LogLevel, strings.Join(levels, ", "))
		}
		v.LogLevel = levels[i]
	}
	return nil
}

// defaults is the spec of a connected registry of which nothing was said.
func defaults() spec {
	return spec{
		Mode: readOnly, Schedule: schedule.Continuous, MessageTTL: schedule.DefaultMessageTTL,
		LogLevel: "Information", GCEnabled: true, GCSchedule: defaultGC,
	}
}
