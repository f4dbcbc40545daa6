package mirror

import (
	"context"
	"time"

	"ferry/internal/metadb"
	"ferry/internal/replication"
)

// A Summary is how the rules stand together.
type Summary struct {
	Rules        int
	OutOfStep    int // of these; see [Service.Summary]
	ItemsPending int
	ItemsFailed  int
	LastSuccess  time.Time // the rule's whose is longest ago; zero is that one never had any
}

// Summary sums up the rules. A rule is in step where its last run ended so,
// also while another looks for what is new and has found nothing yet.
func (s *Service) Summary(ctx context.Context) (sum Summary, _ error) {
	err := s.DB.View(ctx, func(tx *metadb.Tx) error {
		rules, err := tx.MirrorRules()
		for i, r := range rules {
			counts, err := tx.CountSyncItems(SourceName(r.Name))
			if err != nil {
				return err
			}
			pending, failed := counts[string(replication.Pending)], counts[string(replication.Failed)]
			sum.ItemsPending, sum.ItemsFailed = sum.ItemsPending+pending, sum.ItemsFailed+failed
			if !inStep(r, s.State(r.Name).Running) || pending+failed > 0 {
				sum.OutOfStep++
			}
			if i == 0 || r.SucceededAt.Before(sum.LastSuccess) {
				sum.LastSuccess = r.SucceededAt
			}
		}
		sum.Rules = len(rules)
		return err
	})
	return sum, err
}

// inStep reports whether the last run of a rule that came to its end left it
// in step.
func inStep(r metadb.MirrorRule, running bool) bool {
	switch StandingOf(r, running) {
	case InSync:
		return true
	case Running, Waiting:
		return !r.SucceededAt.IsZero() && !r.SucceededAt.Before(r.EndedAt)
	}
	return false
}
