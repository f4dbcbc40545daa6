package management

import (
	"context"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/retention"
	"ferry/internal/storage"
)

// Purger purges content; [retention.Service] implements it.
type Purger interface {
	control.PurgeRunner
	// Purge does one step of a purge.
	Purge(ctx context.Context, q retention.Step) (retention.Result, error)
}

func (h *handler) purges() {
	rules := control.NewPurgeRules(h.Control, h.Purger)
	const path = "/purge-rules/{name}"
	register(h, operation{"POST /purge", "purge",
		"Remove old tags, and manifests that nothing refers to; the answer to each step says where the next begins"},
		func(ctx context.Context, in *struct {
			Call
			Body api.PurgePost
		}) (*plain[api.PurgeResult], error) {
			r, err := h.purge(ctx, in.by, in.Body)
			return &plain[api.PurgeResult]{r}, err
		})
	register(h, operation{"GET /purge-rules", "list-purge-rules", "List the purge rules"},
		func(ctx context.Context, _ *struct{}) (*collection[api.PurgeRule], error) {
			return listed(rules.List(ctx))
		})
	register(h, operation{"GET " + path, "get-purge-rule", "Get a purge rule, with the result of its last run"},
		show(rules.Get))
	register(h, operation{"PUT " + path, "put-purge-rule", "Create a purge rule, or replace it"},
		write(neverUnheard, rules.Put))
	register(h, operation{"DELETE " + path, "delete-purge-rule", "Delete a purge rule"},
		remove(neverUnheard, rules.Delete))
	register(h, operation{"POST " + path + "/run", "run-purge-rule",
		"Run a purge rule now, whatever its schedule says"},
		act(neverUnheard, rules.Run))
}

// purge does a step of a purge, within the caller's limits.
func (h *handler) purge(ctx context.Context, by control.Caller, q api.PurgePost) (v api.PurgeResult, err error) {
	step := retention.Step{
		Policy: control.PolicyOf(q.PurgePolicy), DryRun: q.DryRun, Next: q.Next,
		Note: func(repository string) storage.Note {
			return h.Control.AuditNote(by.Actor(), by.Sender, "purge", "repositories/"+repository,
				q.PurgePolicy.String())
		},
	}
	if by.Limits.Any() {
		step.Covers = by.Limits.Covers
	}
	if err := step.Check(); err != nil {
		return v, control.Invalid("%s", err)
	}
	r, err := h.Purger.Purge(ctx, step)
	if err != nil {
		return v, err
	}
	return api.PurgeResult{
		TagsRemoved: r.Tags, ManifestsRemoved: r.Manifests, BytesFreed: r.Bytes, Held: r.Held, Next: r.Next,
		Removed: purgeItems(r.Removed), Kept: purgeItems(r.Kept),
	}, nil
}

func purgeItems(all []retention.Item) []api.PurgeItem {
	items := make([]api.PurgeItem, len(all))
	for i, item := range all {
		items[i] = api.PurgeItem{
			Repository: item.Repository, Tag: item.Tag, Digest: string(item.Digest), Bytes: item.Bytes,
			Reason: item.Reason, ConnectedRegistries: item.Registries,
		}
	}
	return items
}
