package api

import "time"

// A MirrorRule syncs a repository from another registry, again and again. Its password is never
// shown.
type MirrorRule struct {
	ID                   string       `json:"id"`
	Name                 string       `json:"name"`
	Source               string       `json:"source"`
	Repository           string       `json:"repository"`
	Schedule             string       `json:"schedule"`
	Window               *string      `json:"window" doc:"Null: a run may take any time."`
	TagFilters           []string     `json:"tagFilters"`
	Platforms            []string     `json:"platforms"`
	Username             *string      `json:"username" doc:"Null: as in Docker's configuration at the registry."`
	CertificateAuthority *string      `json:"certificateAuthority" doc:"PEM, in addition to the system's."`
	CreationDate         time.Time    `json:"creationDate"`
	ProvisioningState    string       `json:"provisioningState"`
	Status               MirrorStatus `json:"status"`

	Tagged
}

// A MirrorStatus is the state of a mirror rule's runs. Its ByteProgress is zero unless a run is in
// progress.
type MirrorStatus struct {
	State            string     `json:"state" enum:"Waiting,Running,InSync,Failed,Interrupted"`
	LastRunStartTime *time.Time `json:"lastRunStartTime"`
	LastRunEndTime   *time.Time `json:"lastRunEndTime" doc:"While a run is in progress, of the run before."`
	LastSuccessTime  *time.Time `json:"lastSuccessTime" doc:"When both sides were last known to be the same."`
	NextRunTime      *time.Time `json:"nextRunTime"`
	ItemsSynced      int        `json:"itemsSynced"`
	ItemsPending     int        `json:"itemsPending"`
	ItemsFailed      int        `json:"itemsFailed"`
	ByteProgress
	Error    *string         `json:"error"`
	Failures []MirrorFailure `json:"failures" nullable:"false" doc:"The first tags that failed."`
	Warnings []SourceWarning `json:"warnings" nullable:"false" doc:"Faults of the source in the last run."`
}

// A SourceWarning is a fault in an optional answer of another registry. Everything else was
// mirrored, and nothing was removed because of it.
type SourceWarning struct {
	Code    string `json:"code" enum:"ReferrersUnavailable,InvalidTags"`
	Message string `json:"message"`
}

// A MirrorFailure is a tag that a mirror rule could not mirror.
type MirrorFailure struct {
	Tag   string `json:"tag"`
	Error string `json:"error"`
}

// A MirrorRulePut creates or replaces a mirror rule.
type MirrorRulePut struct {
	Source               string   `json:"source" doc:"HOST/REPOSITORY, or http://HOST/REPOSITORY without TLS."`
	Repository           string   `json:"repository" doc:"The repository here. Each has one rule at most."`
	Schedule             string   `json:"schedule,omitempty" doc:"A cron expression in UTC; once an hour by default."`
	Window               string   `json:"window,omitempty" doc:"The maximum duration of a run, in ISO 8601."`
	TagFilters           []string `json:"tagFilters,omitempty" maxItems:"50"`
	Platforms            []string `json:"platforms,omitempty" maxItems:"20" doc:"Such as linux/amd64; empty is all."`
	Username             string   `json:"username,omitempty" maxLength:"1024"`
	Password             string   `json:"password,omitempty" maxLength:"65536" doc:"Stored encrypted, and never shown."`
	CertificateAuthority string   `json:"certificateAuthority,omitempty" maxLength:"262144" doc:"PEM."`
}

// A MirrorRulePatch changes a mirror rule. nil leaves a field unchanged.
type MirrorRulePatch struct {
	Source               *string  `json:"source,omitempty"`
	Schedule             *string  `json:"schedule,omitempty"`
	Window               *string  `json:"window,omitempty" doc:"Empty is no limit."`
	TagFilters           []string `json:"tagFilters,omitzero" nullable:"false" maxItems:"50"`
	Platforms            []string `json:"platforms,omitzero" nullable:"false" maxItems:"20"`
	Username             *string  `json:"username,omitempty" maxLength:"1024" doc:"Empty deletes the password, too."`
	Password             *string  `json:"password,omitempty" maxLength:"65536"`
	CertificateAuthority *string  `json:"certificateAuthority,omitempty" maxLength:"262144"`
}
