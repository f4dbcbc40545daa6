package connected

import (
	"ferry/internal/replication"
	"ferry/internal/wire"
)

// question returns what to ask the parent, from the place that the engine is at.
// Where an operator asked for every repository to be listed anew, it is none.
func (m memory) question(p replication.Place) wire.PollRequest {
	if m.Resync != m.Self.Resync {
		return wire.PollRequest{}
	}
	q := wire.PollRequest{Feed: p.Feed, Subscription: p.Subscription, Cursor: p.Cursor, Pass: p.Pass}
	if p.Since != p.Cursor {
		q.Since = &p.Since
	}
	if page := p.NextPage(); page != nil {
		q.Page = &wire.Page{Repository: page.Repository, Seq: page.Seq, After: page.After}
	}
	return q
}

// trigger says why the parent lists every repository, in answer to q.
func (m memory) trigger(q wire.PollRequest, a *wire.PollResponse) string {
	switch {
	case m.Resync != m.Self.Resync && m.SyncTrigger != "":
		return triggerResync
	case q.Feed == "":
		return triggerInitial
	case q.Feed == a.Feed && q.Subscription != a.Subscription:
		return triggerPermissions
	}
	return triggerRecovery
}

// answerOf returns what the engine records of a parent's answer.
func answerOf(a *wire.PollResponse) replication.Answer {
	answer := replication.Answer{
		Feed: a.Feed, Subscription: a.Subscription, Cursor: a.Cursor, Restart: a.Restart, Head: a.Head, More: a.More, Watermarks: a.Watermarks,
	}
	for _, l := range a.Listings {
		answer.Listings = append(answer.Listings, replication.Listing{
			Repository: l.Repository, Seq: l.Seq, Items: itemsOf(l.Items), After: l.After, More: l.More,
			Short: l.Short, Gone: l.Gone, Count: l.Count, Sum: l.Sum,
		})
	}
	return answer
}

func itemsOf(items []wire.Item) (all []replication.ListedItem) {
	for _, i := range items {
		all = append(all, replication.ListedItem(i))
	}
	return all
}
