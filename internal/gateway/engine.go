package gateway

import (
	"slices"

	"ferry/internal/replication"
	"ferry/internal/wire"
)

// PollRequestOf returns the question for what changed since the place that the
// engine is at. The zero place asks for every repository.
func PollRequestOf(p replication.Place) wire.PollRequest {
	q := wire.PollRequest{Feed: p.Feed, Subscription: p.Subscription, Cursor: p.Cursor, Pass: p.Pass}
	if p.Since != p.Cursor {
		q.Since = &p.Since
	}
	if page := p.NextPage(); page != nil {
		q.Page = &wire.Page{Repository: page.Repository, Seq: page.Seq, After: page.After}
	}
	return q
}

// AnswerOf returns what the engine records of a parent's answer to a poll.
func AnswerOf(a *wire.PollResponse) replication.Answer {
	answer := replication.Answer{
		Feed: a.Feed, Subscription: a.Subscription, Cursor: a.Cursor,
		Restart: a.Restart, Head: a.Head, More: a.More, Watermarks: a.Watermarks,
	}
	for _, l := range a.Listings {
		listing := replication.Listing{
			Repository: l.Repository, Seq: l.Seq, After: l.After, More: l.More,
			Short: l.Short, Gone: l.Gone, Count: l.Count, Sum: l.Sum,
		}
		for _, i := range l.Items {
			listing.Items = append(listing.Items, replication.ListedItem(i))
		}
		answer.Listings = append(answer.Listings, listing)
	}
	return answer
}

// wantsOf are references on the wire.
func wantsOf(refs []replication.Ref) []wire.Want {
	all := make([]wire.Want, len(refs))
	for i, ref := range refs {
		all[i] = wire.Want(ref)
	}
	return all
}

// planEntryOf is an entry of a plan as the engine knows it.
func planEntryOf(e wire.PlanEntry) (p replication.PlanEntry) {
	switch {
	case e.Blob != nil:
		p.Blob = &replication.PlanBlob{
			Ref:  replication.Ref{Repository: e.Blob.Repository, Digest: e.Blob.Digest},
			Size: e.Blob.Size, Data: e.Blob.Data, Batch: slices.Contains(e.Blob.Ways, wire.Way{Kind: wire.WayBatch}),
		}
	case e.Manifest != nil:
		p.Manifest = &replication.PlanManifest{
			Ref:       replication.Ref{Repository: e.Manifest.Repository, Digest: e.Manifest.Digest},
			MediaType: e.Manifest.MediaType, Payload: e.Manifest.Payload, OmittedChildren: e.Manifest.LeftOut,
		}
	case e.Missing != nil:
		p.Missing = &replication.PlanMissing{Ref: replication.Ref(e.Missing.Want), Reason: e.Missing.Reason}
	case e.Told != nil:
		p.Complete = new(replication.Ref(*e.Told))
	}
	return p
}
