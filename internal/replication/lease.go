package replication

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
)

// leaseTime is how long a sync's blobs and transfers are safe from collection
// without a manifest: a registry may be without its link for a season. What a
// Sync did not ask for again is released at its end.
const leaseTime = 90 * 24 * time.Hour

// leaseHolder is the name that a sync's leases are held in; see [Engine.own].
const leaseHolder = "sync"

// lease keeps every blob of the plan from collection, before anything relies
// on one that is here.
func (r *run) lease(ctx context.Context, p *plan) error {
	seen := map[digest.Digest]bool{}
	var all []digest.Digest
	for _, m := range p.manifests {
		for _, b := range m.parsed.Blobs() {
			if !seen[b.Digest] {
				seen[b.Digest] = true
				all = append(all, b.Digest)
			}
		}
	}
	return r.storage.Lease(ctx, r.own(leaseHolder), leaseTime, all...)
}

// unlease releases what was leased and is not needed any more. What the order
// did not want keeps its leases: other Syncs began it.
func (r *run) unlease(ctx context.Context, start time.Time) error {
	waiting, err := r.repositories(ctx, metadb.WantedSyncItem)
	if err != nil {
		return err
	}
	order := r.currentOrder()
	for repository := range waiting {
		if _, wanted := order(repository); !wanted {
			return nil
		}
	}
	if r.result.Failed == 0 {
		return r.storage.Release(ctx, r.own(leaseHolder))
	}
	return r.storage.ReleaseStale(ctx, r.own(leaseHolder), start, leaseTime)
}
