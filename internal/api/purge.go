package api

import (
	"fmt"
	"strings"
	"time"
)

// A PurgePolicy says which tags and manifests a purge removes. Locked content stays, and content that a
// connected registry has not heard to be superfluous.
type PurgePolicy struct {
	Filters  []string `json:"filters" doc:"REPOSITORY:REGEX: only these repositories, and in them only these tags."`
	Ago      string   `json:"ago,omitempty" doc:"Tags set longer ago than this, such as 30d or 12h."`
	Keep     int      `json:"keep,omitempty" doc:"How many of the newest of these tags stay, in each repository."`
	Untagged bool     `json:"untagged,omitempty" doc:"Also manifests that nothing refers to."`
}

// String returns the policy in words, for the audit log.
func (p PurgePolicy) String() string {
	text := "filters " + strings.Join(p.Filters, " ")
	if p.Ago != "" {
		text += ", ago " + p.Ago
	}
	if p.Keep > 0 {
		text += fmt.Sprintf(", keep %d", p.Keep)
	}
	if p.Untagged {
		text += ", untagged"
	}
	return text
}

// A PurgePost asks for a step of a purge. Steps are bounded: if the answer has next, the purge goes on
// with that.
type PurgePost struct {
	PurgePolicy
	DryRun bool   `json:"dryRun,omitempty" doc:"Only list what would be removed."`
	Next   string `json:"next,omitempty" maxLength:"1024" doc:"The member next of the last answer; empty begins."`
}

// A PurgeResult is what a step of a purge removed or, in a dry run, would remove.
type PurgeResult struct {
	TagsRemoved      int         `json:"tagsRemoved"`
	ManifestsRemoved int         `json:"manifestsRemoved"`
	BytesFreed       int64       `json:"bytesFreed" doc:"By garbage collection, after its grace period."`
	Held             int         `json:"held" doc:"How many tags and manifests stay although the policy selects them."`
	Removed          []PurgeItem `json:"removed" nullable:"false" doc:"At most 10,000."`
	Kept             []PurgeItem `json:"kept" nullable:"false" doc:"Those that are held, at most 10,000."`
	Next             string      `json:"next,omitempty" doc:"Absent after the last step."`
}

// A PurgeItem is a tag, or a manifest if it has no tag. Its reason says why it stays.
type PurgeItem struct {
	Repository          string   `json:"repository"`
	Tag                 string   `json:"tag,omitempty"`
	Digest              string   `json:"digest,omitempty" doc:"Absent if the whole repository is locked."`
	Bytes               int64    `json:"bytes,omitempty"`
	Reason              string   `json:"reason,omitempty" enum:"Locked,Mirrored,Young,Unheard,Moved"`
	ConnectedRegistries []string `json:"connectedRegistries,omitempty" doc:"That must hear first, at most 5."`
}

// A PurgeRule purges on a schedule.
type PurgeRule struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	PurgePolicy
	Schedule          string      `json:"schedule"`
	CreationDate      time.Time   `json:"creationDate"`
	ProvisioningState string      `json:"provisioningState"`
	Status            PurgeStatus `json:"status"`

	Tagged
}

// A PurgeStatus is the state of a purge rule, and the result of its last run.
type PurgeStatus struct {
	State            string     `json:"state" enum:"Waiting,Running,Succeeded,Failed"`
	LastRunStartTime *time.Time `json:"lastRunStartTime"`
	LastRunEndTime   *time.Time `json:"lastRunEndTime"`
	NextRunTime      *time.Time `json:"nextRunTime"`
	TagsRemoved      int        `json:"tagsRemoved"`
	ManifestsRemoved int        `json:"manifestsRemoved"`
	BytesFreed       int64      `json:"bytesFreed"`
	Held             int        `json:"held"`
	Error            *string    `json:"error"`
}

// A PurgeRulePut creates or replaces a purge rule.
type PurgeRulePut struct {
	PurgePolicy
	Schedule string `json:"schedule,omitempty" doc:"A cron expression in UTC; 03:00 every day by default."`
}
