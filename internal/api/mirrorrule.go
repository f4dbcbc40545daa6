package api

import "time"

// A MirrorRule is a standing order to keep a repository in step with one of
// another registry. Its password is never shown.
type MirrorRule struct {
	ID                   string       `json:"id"`
	Name                 string       `json:"name"`
	Source               string       `json:"source"`
	Repository           string       `json:"repository"`
	Schedule             string       `json:"schedule"`
	Window               *string      `json:"window" doc:"Null is as long as it takes."`
	TagFilters           []string     `json:"tagFilters"`
	Platforms            []string     `json:"platforms"`
	Username             *string      `json:"username" doc:"Null is as Docker's configuration at the registry says."`
	CertificateAuthority *string      `json:"certificateAuthority" doc:"PEM, beside what the registry's machine trusts."`
	CreationDate         time.Time    `json:"creationDate"`
	ProvisioningState    string       `json:"provisioningState"`
	Status               MirrorStatus `json:"status"`

	Tagged
}

// A MirrorStatus is how the runs of a mirror rule go. Its bytes are 0 while none runs.
type MirrorStatus struct {
	State            string     `json:"state" enum:"Waiting,Running,InSync,Failed,Interrupted" doc:"Waiting is for the first run, or one that was asked for and has not begun; InSync is as the last run left it; Interrupted goes on with the next run."`
	LastRunStartTime *time.Time `json:"lastRunStartTime"`
	LastRunEndTime   *time.Time `json:"lastRunEndTime" doc:"Of the run before, while one runs."`
	LastSuccessTime  *time.Time `json:"lastSuccessTime" doc:"When both sides were last known to be the same."`
	NextRunTime      *time.Time `json:"nextRunTime" doc:"By the schedule, or before that where a run is owed: asked for, interrupted, or failed for a reason that may pass."`
	ItemsSynced      int        `json:"itemsSynced"`
	ItemsPending     int        `json:"itemsPending"`
	ItemsFailed      int        `json:"itemsFailed"`
	ByteProgress
	Error    *string         `json:"error" doc:"Why the last run did not end in step, or why the running one does not get on; null while one waits to begin, or to go on."`
	Failures []MirrorFailure `json:"failures" nullable:"false" doc:"The first tags that failed."`
	Warnings []SourceWarning `json:"warnings" nullable:"false" doc:"What was odd at the source in the last run, and did not stop it."`
}

// A SourceWarning is something optional that another registry did not do as it
// should: the rest came, and nothing was removed for it.
type SourceWarning struct {
	Code    string `json:"code" enum:"ReferrersUnavailable,InvalidTags"`
	Message string `json:"message"`
}

// A MirrorFailure is a tag that a mirror rule could not bring.
type MirrorFailure struct {
	Tag   string `json:"tag"`
	Error string `json:"error"`
}

// A MirrorRulePut is a mirror rule as it is to be.
type MirrorRulePut struct {
	Source               string   `json:"source" doc:"HOST/REPOSITORY, or http://HOST/REPOSITORY without TLS."`
	Repository           string   `json:"repository" doc:"The repository here. Each has one rule at most."`
	Schedule             string   `json:"schedule,omitempty" doc:"A cron expression in UTC; once an hour by default."`
	Window               string   `json:"window,omitempty" doc:"How long a run may take, as an ISO 8601 duration; none is as long as it takes."`
	TagFilters           []string `json:"tagFilters,omitempty" maxItems:"50"`
	Platforms            []string `json:"platforms,omitempty" maxItems:"20" doc:"Of indexes only what is for one of these, as linux/amd64; empty is every platform."`
	Username             string   `json:"username,omitempty" maxLength:"1024"`
	Password             string   `json:"password,omitempty" maxLength:"65536" doc:"It is kept sealed, and never shown."`
	CertificateAuthority string   `json:"certificateAuthority,omitempty" maxLength:"262144" doc:"PEM."`
}

// A MirrorRulePatch is what is to change.
type MirrorRulePatch struct {
	Source               *string  `json:"source,omitempty"`
	Schedule             *string  `json:"schedule,omitempty"`
	Window               *string  `json:"window,omitempty" doc:"Empty is as long as it takes."`
	TagFilters           []string `json:"tagFilters,omitzero" nullable:"false" maxItems:"50"`
	Platforms            []string `json:"platforms,omitzero" nullable:"false" maxItems:"20"`
	Username             *string  `json:"username,omitempty" maxLength:"1024" doc:"Empty forgets the password, too."`
	Password             *string  `json:"password,omitempty" maxLength:"65536"`
	CertificateAuthority *string  `json:"certificateAuthority,omitempty" maxLength:"262144"`
}
