package management

import (
	"context"
	"net/url"
	"strconv"

	"ferry/internal/api"
)

// A Scrubber reads all stored content again; [scrub.Scrubber] implements it.
type Scrubber interface {
	// Start starts a scrub at once.
	Start(ctx context.Context) error
	// Status returns the progress of the running scrub, or the result of the last one.
	Status(ctx context.Context) (api.Scrub, error)
	// Damaged returns up to limit damaged blobs and manifests that are out of service, after a
	// position.
	Damaged(ctx context.Context, repository, digest string, limit int) ([]api.Damaged, error)
}

func (h *handler) scrub() {
	type status = plain[api.Scrub]
	read := func(ctx context.Context) (*status, error) {
		v, err := h.Scrubber.Status(ctx)
		return &status{v}, err
	}
	register(h, operation{"GET /scrub", "get-scrub",
		"Get the progress of the running scrub, or the result of the last one"},
		func(ctx context.Context, _ *struct{}) (*status, error) { return read(ctx) })
	register(h, operation{"POST /scrub", "start-scrub",
		"Read all stored content again, and take damaged content out of service"},
		func(ctx context.Context, in *struct{ Call }) (*status, error) {
			if err := h.Control.AuditAlone(ctx, in.by, "verify", "content", ""); err != nil {
				return nil, err
			}
			if err := h.Scrubber.Start(ctx); err != nil {
				return nil, err
			}
			return read(ctx)
		})
	register(h, operation{"GET /damaged", "list-damaged",
		"List the damaged content that is out of service"},
		func(ctx context.Context, in *struct {
			Call
			N          int    `query:"n" minimum:"1" maximum:"1000" default:"100" doc:"How many at most."`
			Repository string `query:"repository" doc:"Begin in this repository, after last; empty is the blobs."`
			Last       string `query:"last" doc:"Begin after this digest."`
		}) (*page[api.Damaged], error) {
			some := scan[api.Damaged]{next: func(after *api.Damaged, limit int) ([]api.Damaged, error) {
				repository, last := in.Repository, in.Last
				if after != nil {
					repository, last = deref(after.Repository), after.Digest
				}
				return h.Scrubber.Damaged(ctx, repository, last, limit)
			}}
			if in.by.Limits.Any() {
				some.keep = func(d api.Damaged) bool {
					return d.Repository != nil && in.by.Limits.Covers(*d.Repository)
				}
			}
			return some.page(in.N, func(last api.Damaged) string {
				at := url.Values{"n": {strconv.Itoa(in.N)}, "last": {last.Digest}}
				if last.Repository != nil {
					at.Set("repository", *last.Repository)
				}
				return api.Root + "/damaged?" + at.Encode()
			})
		})
}

// deref returns the text that p points to; "" for nil.
func deref(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}
