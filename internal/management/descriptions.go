package management

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// A description is the text for one property of the OpenAPI document.
type description struct{ property, text string }

var networksDescription = description{"anonymousNetworks", "Networks such as 10.20.0.0/16, or addresses, whose " +
	"clients may pull without credentials what the actions allow to read. None is the default. In PATCH, they " +
	"replace the former ones."}

// settingsDescriptions are those of api.Settings.
var settingsDescriptions = []description{
	{"syncSchedule", "A cron expression with five fields, in UTC. * * * * * is continuous, and the default."},
	{"syncWindow", "ISO 8601, PT1H to P7D. Required with a schedule that is not continuous."},
	{"syncMessageTtl", "ISO 8601, P1D to P90D. The default is P2D."},
	{"logLevel", "Debug, Information, Warning, Error or None. The default is Information."},
	{"gcEnabled", "The default is true."},
	{"gcSchedule", "A cron expression with five fields, in UTC. The default is 0 0 * * *."},
	{"tagFilters", "Sync only tags that match one of these: a pattern such as v1.*, " +
		"a regular expression such as /^v1/, or a range of versions such as >=1.2 <2. " +
		"With ! before it, a filter excludes its matches. " +
		"Empty is every tag, the default."},
	{"keepLast", "Sync only this many tags of each repository, those that were set last. 0 is all, the default."},
	{"platforms", "Of indexes sync only manifests for one of these platforms, such as linux/amd64 or " +
		"linux/arm64/v8, and those without a platform. Empty is every platform, the default."},
	{"byteBudget", "How many bytes of layers the syncs may fetch, such as 2GiB/day or 20GiB/month, in UTC. " +
		"When it is spent, syncs wait for the next period, " +
		"apart from urgent repositories. Empty is no limit, the default."},
	{"bandwidth", "The maximum rate of the syncs: a rate such as 2MiB or 4Mbit, or HH:MM-HH:MM=RATE in UTC. " +
		"The first entry that applies counts. Empty is no limit, the default."},
	{"priorities", "The order of repositories, such as ops/*=urgent or media/*=low: urgent, high, normal or low. " +
		"The first entry that matches counts, and a repository without a match is normal. " +
		"Urgent repositories are synced even when the byte budget is spent."},
	{"labels", "Keys and values in the grammar of Kubernetes, at most 32, such as group: baltic. In PATCH, each " +
		"key is set, and a key with an empty value is removed. Keys of filters, such as state, are not allowed."},
}

// verdictDescriptions are those of api.Verdict.
var verdictDescriptions = []description{
	{"status", "Unknown: the connected registry and its parent should have answered each other since, or cannot."},
	{"asOfTime", "The time of which status is. Of Unknown, the time since when the state is unknown, which is the " +
		"creation of a connected registry that never reported. Null is never."},
}

// descriptions are the texts that are too long for a tag in api, by schema. The variables are
// never written.
var descriptions = map[string][]description{
	"RegistryPut":    settingsDescriptions,
	"RegistryPatch":  settingsDescriptions,
	"Verdict":        verdictDescriptions,
	"SyncStatus":     verdictDescriptions,
	"DescendantSync": verdictDescriptions,
	"SyncItem": {{"state", "Unknown: the site has more items out of sync than it reports, its subscription changed, " +
		"or it is overdue. digest and lastMatchTime are then those that were known last."}},
	"MirrorStatus": {
		{"state", "Waiting: the first run, or a requested one, has not begun. InSync: the last run ended in sync. " +
			"Interrupted: the next run continues the last one."},
		{"nextRunTime", "By the schedule, or earlier if a run was requested, was interrupted, or failed temporarily."},
		{"error", "Why the last run failed, or why the running one makes no progress. Null while a run waits."},
	},
	"ScopeMapPut": {
		{"actions", "repositories/NAME/ACTION or gateway/NAME/ACTION."}, networksDescription,
	},
	"ScopeMapPatch": {networksDescription},
}

// describe sets the descriptions and examples in the OpenAPI document, and the codes of problems. It
// returns an error if a schema lacks a described property.
func describe(doc *huma.OpenAPI) error {
	addExamples(doc)
	allowNulls(doc.Components.Schemas)
	schemas := doc.Components.Schemas.Map()
	for name, all := range descriptions {
		schema := schemas[name]
		if schema == nil {
			continue // its operations are not served here
		}
		for _, d := range all {
			property := schema.Properties[d.property]
			if property == nil {
				return fmt.Errorf("describe %s: it has no property %s", name, d.property)
			}
			property.Description = d.text
		}
	}
	code := schemas["Problem"].Properties["code"]
	for _, c := range slices.Sorted(maps.Keys(statuses)) {
		code.Enum = append(code.Enum, c)
	}
	return nil
}

// allowNulls allows null for the members whose type is a pointer to a struct, as the answers have
// it. Huma does so for pointers to other types only.
func allowNulls(schemas huma.Registry) {
	for name, schema := range schemas.Map() {
		t := schemas.TypeFromRef("#/components/schemas/" + name)
		if t.Kind() != reflect.Struct {
			continue
		}
		for _, field := range reflect.VisibleFields(t) {
			name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
			property := schema.Properties[name]
			if field.Type.Kind() == reflect.Pointer && options == "" && property != nil && property.Ref != "" {
				schema.Properties[name] = &huma.Schema{
					Description: property.Description,
					AnyOf:       []*huma.Schema{{Ref: property.Ref}, {Type: "null"}},
				}
			}
		}
	}
}
