package control

import (
	"ferry/internal/api"
	"ferry/internal/metadb"
	"ferry/internal/mirror"
	"ferry/internal/replication"
)

// shownFailures is how many of a rule's failures are shown.
const shownFailures = 10

// mirrorRuleOf makes a resource of a row and of how its run goes.
func (s *Service) mirrorRuleOf(tx *metadb.Tx, row metadb.MirrorRule, run mirror.RunStatus) (api.MirrorRule, error) {
	v, err := mirror.SpecOf(row)
	if err != nil {
		return api.MirrorRule{}, err
	}
	r := api.MirrorRule{
		ID: "/mirror-rules/" + row.Name, Name: row.Name, Source: v.Source, Repository: v.Repository, Schedule: v.Schedule,
		Window: api.Text(v.Window), TagFilters: api.List(v.TagFilters), Platforms: api.List(v.Platforms), Username: api.Text(v.Username), CertificateAuthority: api.Text(v.CA),
		CreationDate: row.CreatedAt, ProvisioningState: api.Succeeded, Tagged: api.Tagged{ETag: ETag(row.Version)},
	}
	r.Status = api.MirrorStatus{
		State: string(mirror.RuleStateOf(row, run.Running)), LastRunStartTime: api.Time(row.StartedAt), LastRunEndTime: api.Time(row.EndedAt),
		LastSuccessTime: api.Time(row.SucceededAt), Error: api.Text(row.Error), Failures: []api.MirrorFailure{},
		NextRunTime: api.Time(run.NextRun(row, v, s.now())),
	}
	switch mirror.RuleState(r.Status.State) {
	case mirror.Running:
		r.Status.Error = api.Text(run.Problem)
		r.Status.BytesTotal, r.Status.BytesDone = run.Progress.BytesTotal, run.Progress.BytesDone
		r.Status.BytesPerSecond, r.Status.EtaSeconds = run.BytesPerSecond, api.SecondsLeft(run.Progress.BytesTotal-run.Progress.BytesDone, run.BytesPerSecond)
	case mirror.Waiting, mirror.BrokenOff:
		r.Status.Error = nil
	}
	return r, countItems(&r.Status, tx, mirror.SourceName(row.Name))
}

// countItems adds what is known of the source's items.
func countItems(m *api.MirrorStatus, tx *metadb.Tx, source string) error {
	counts, err := tx.CountSyncItems(source)
	if err != nil {
		return err
	}
	m.ItemsSynced, m.ItemsPending = counts[replication.Synced], counts[replication.Pending]
	if m.ItemsFailed = counts[replication.Failed]; m.ItemsFailed == 0 {
		return nil
	}
	failed, err := tx.SyncItems(source, metadb.FailedSyncItem, "", "", shownFailures)
	for _, i := range failed {
		m.Failures = append(m.Failures, api.MirrorFailure{Tag: i.Tag, Error: i.Error})
	}
	return err
}
