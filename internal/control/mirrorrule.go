package control

import (
	"time"

	"ferry/internal/metadb"
	"ferry/internal/mirror"
	"ferry/internal/replication"
)

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

	version int64
}

// A MirrorStatus is how the runs of a mirror rule go.
type MirrorStatus struct {
	State            string          `json:"state" enum:"Waiting,Running,InSync,Failed,BrokenOff" doc:"Waiting is for the first run, or one that was asked for and has not begun; InSync is as the last run left it; BrokenOff goes on with the next run."`
	LastRunStartTime *time.Time      `json:"lastRunStartTime"`
	LastRunEndTime   *time.Time      `json:"lastRunEndTime" doc:"Of the run before, while one runs."`
	LastSuccessTime  *time.Time      `json:"lastSuccessTime" doc:"When both sides were last known to be the same."`
	NextRunTime      *time.Time      `json:"nextRunTime" doc:"By the schedule, or before that where a run is owed: asked for, broken off, or failed for a reason that may pass."`
	ItemsSynced      int             `json:"itemsSynced"`
	ItemsPending     int             `json:"itemsPending"`
	ItemsFailed      int             `json:"itemsFailed"`
	BytesTotal       int64           `json:"bytesTotal" doc:"Of the layers that were missing, as far as the run has planned; 0 while none runs."`
	BytesDone        int64           `json:"bytesDone" doc:"Of these, what is here."`
	BytesPerSecond   int64           `json:"bytesPerSecond" doc:"Over the last seconds; 0 while none runs."`
	EtaSeconds       *int64          `json:"etaSeconds" doc:"How long the rest takes at this rate; null where nobody knows."`
	Error            *string         `json:"error" doc:"Why the last run did not end in step, or why the running one does not get on; null while one waits to begin, or to go on."`
	Failures         []MirrorFailure `json:"failures" nullable:"false" doc:"The first tags that failed."`
}

// A MirrorFailure is a tag that a mirror rule could not bring.
type MirrorFailure struct {
	Tag   string `json:"tag"`
	Error string `json:"error"`
}

// shownFailures is how many of a rule's failures are shown.
const shownFailures = 10

// mirrorRuleOf makes a resource of a row and of how its run goes.
func (s *Service) mirrorRuleOf(tx *metadb.Tx, row metadb.MirrorRule, run mirror.State) (MirrorRule, error) {
	v, err := mirror.SpecOf(row)
	if err != nil {
		return MirrorRule{}, err
	}
	r := MirrorRule{
		ID: "/mirror-rules/" + row.Name, Name: row.Name, Source: v.Source, Repository: v.Repository, Schedule: v.Schedule,
		Window: text(v.Window), TagFilters: asList(v.TagFilters), Platforms: asList(v.Platforms), Username: text(v.Username), CertificateAuthority: text(v.CA),
		CreationDate: row.CreatedAt, ProvisioningState: succeeded, version: row.Version,
	}
	r.Status = MirrorStatus{
		State: string(mirror.StandingOf(row, run.Running)), LastRunStartTime: moment(row.StartedAt), LastRunEndTime: moment(row.EndedAt),
		LastSuccessTime: moment(row.SucceededAt), Error: text(row.Error), Failures: []MirrorFailure{},
		NextRunTime: moment(run.NextRun(row, v, s.now())),
	}
	switch mirror.Standing(r.Status.State) {
	case mirror.Running:
		r.Status.Error = text(run.Trouble)
		r.Status.BytesTotal, r.Status.BytesDone = run.Progress.BytesTotal, run.Progress.BytesDone
		r.Status.BytesPerSecond, r.Status.EtaSeconds = run.BytesPerSecond, secondsLeft(run.Progress.BytesTotal-run.Progress.BytesDone, run.BytesPerSecond)
	case mirror.Waiting, mirror.BrokenOff:
		r.Status.Error = nil
	}
	return r, r.Status.count(tx, mirror.SourceName(row.Name))
}

// count adds what is known of the source's items.
func (m *MirrorStatus) count(tx *metadb.Tx, source string) error {
	counts, err := tx.CountSyncItems(source)
	if err != nil {
		return err
	}
	m.ItemsSynced, m.ItemsPending = counts[string(replication.Synced)], counts[string(replication.Pending)]
	if m.ItemsFailed = counts[string(replication.Failed)]; m.ItemsFailed == 0 {
		return nil
	}
	failed, err := tx.FailedSyncItems(source, shownFailures)
	for _, i := range failed {
		m.Failures = append(m.Failures, MirrorFailure{i.Tag, i.Error})
	}
	return err
}
