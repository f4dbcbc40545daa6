package mirror

import (
	"cmp"
	"context"
	"time"

	"ferry/internal/metadb"
	"ferry/internal/replication"
	"ferry/internal/subscription"
)

// A RuleState is the state of a rule after its last run, or during a run.
type RuleState string

// The states of a rule.
const (
	Waiting     RuleState = "Waiting" // for its first run, or for a requested run
	Running     RuleState = "Running"
	InSync      RuleState = "InSync"      // the last run ended in sync
	Failed      RuleState = "Failed"      // the last run did not end in sync
	Interrupted RuleState = "Interrupted" // the last run did not end, and the next one continues it
)

// RuleStateOf returns the state of a rule. running says whether it runs now.
func RuleStateOf(r metadb.MirrorRule, running bool) RuleState {
	switch {
	case running:
		return Running
	case r.StartedAt.IsZero() || r.RequestedAt.After(r.StartedAt):
		return Waiting
	case !r.SucceededAt.Before(r.StartedAt):
		return InSync
	case r.EndedAt.Before(r.StartedAt) || r.Error == "":
		return Interrupted
	}
	return Failed
}

// inSync reports whether the last run of a rule that ended left it in sync.
func inSync(r metadb.MirrorRule, running bool) bool {
	switch RuleStateOf(r, running) {
	case InSync:
		return true
	case Running, Waiting:
		return !r.SucceededAt.IsZero() && !r.SucceededAt.Before(r.EndedAt)
	}
	return false
}

// A Summary counts the rules and their items.
type Summary struct {
	Rules        int
	OutOfSync    int // rules that are not in sync
	ItemsPending int
	ItemsFailed  int
	LastSuccess  time.Time // the oldest last success of all rules; zero if a rule never had any
}

// A RuleSync says whether a rule is in sync.
type RuleSync struct {
	Name        string
	InSync      bool
	LastSuccess time.Time // zero is never
}

// RuleStates says of each rule whether it is in sync, in the sense of [Service.Summary].
func (s *Service) RuleStates(ctx context.Context) ([]RuleSync, error) {
	return metadb.Read(ctx, s.DB, func(tx *metadb.Tx) (all []RuleSync, err error) {
		rules, err := tx.MirrorRules()
		for _, r := range rules {
			ok, err := s.isInSync(tx, r)
			if err != nil {
				return nil, err
			}
			all = append(all, RuleSync{r.Name, ok, r.SucceededAt})
		}
		return all, err
	})
}

// isInSync reports whether a rule is in sync.
func (s *Service) isInSync(tx *metadb.Tx, r metadb.MirrorRule) (bool, error) {
	counts, err := tx.CountSyncItems(SourceName(r.Name))
	if err != nil {
		return false, err
	}
	broken, err := failuresOf(tx, SourceName(r.Name))
	ok := inSync(r, s.Status(r.Name).Running) && counts[replication.Pending] == 0 && broken.required == nil
	return ok, err
}

// isOptionalItem reports whether an item of a rule is a referrer, or the tag of a signature
// or attestation. A rule is in sync without those that the source does not provide.
func isOptionalItem(tag string) bool {
	_, attached := subscription.AttachedTo(tag)
	return tag == "" || attached
}

// failures has the first failed items of a source: an optional one, and one that is not.
type failures struct{ optional, required *metadb.SyncItem }

// failuresOf looks for failed items of a source, until it has found a required one.
func failuresOf(tx *metadb.Tx, source string) (f failures, _ error) {
	const pageSize = 200
	for repository, item := "", ""; f.required == nil; {
		page, err := tx.SyncItems(source, metadb.FailedSyncItem, repository, item, pageSize)
		if err != nil || len(page) == 0 {
			return f, err
		}
		for _, i := range page {
			if repository, item = i.Repository, i.Item; isOptionalItem(i.Tag) {
				f.optional = cmp.Or(f.optional, &i)
			} else {
				f.required = cmp.Or(f.required, &i)
			}
		}
	}
	return f, nil
}

// Summary summarises the rules. A rule is in sync if its last run left it in sync. It
// stays so during the next run until that finds changes, or fails for more than referrers.
func (s *Service) Summary(ctx context.Context) (Summary, error) {
	return metadb.Read(ctx, s.DB, func(tx *metadb.Tx) (sum Summary, err error) {
		rules, err := tx.MirrorRules()
		for i, r := range rules {
			counts, err := tx.CountSyncItems(SourceName(r.Name))
			if err != nil {
				return sum, err
			}
			pending, failed := counts[replication.Pending], counts[replication.Failed]
			sum.ItemsPending, sum.ItemsFailed = sum.ItemsPending+pending, sum.ItemsFailed+failed
			ok, err := s.isInSync(tx, r)
			if err != nil {
				return sum, err
			}
			if !ok {
				sum.OutOfSync++
			}
			if i == 0 || r.SucceededAt.Before(sum.LastSuccess) {
				sum.LastSuccess = r.SucceededAt
			}
		}
		sum.Rules = len(rules)
		return sum, err
	})
}
