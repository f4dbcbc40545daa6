package management

import (
	"context"
	"net/url"
	"strconv"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/control"
	"ferry/internal/storage"
)

func repositoryOf(r storage.Repository, counted bool) api.Repository {
	v := api.Repository{Name: r.Name, CreatedTime: r.CreatedAt, LastUpdateTime: r.UpdatedAt}
	if counted {
		v.ManifestCount, v.TagCount = &r.Manifests, &r.Tags
	}
	return v
}

func (h *handler) repositories() {
	const path = "/repositories/{name}"
	register(h, operation{"GET /repositories", "list-repositories", "List the repositories, by name"},
		func(ctx context.Context, in *struct {
			Call
			N    int    `query:"n" minimum:"1" maximum:"1000" default:"100" doc:"How many at most."`
			Last string `query:"last" doc:"Begin after this repository."`
		}) (*page[api.Repository], error) {
			some := scan[api.Repository]{next: func(after *api.Repository, limit int) ([]api.Repository, error) {
				last := in.Last
				if after != nil {
					last = after.Name
				}
				rows, err := h.Repositories.Repositories(ctx, last, limit)
				all := []api.Repository{}
				for _, r := range rows {
					all = append(all, repositoryOf(r, false))
				}
				return all, err
			}}
			if in.by.Limits.Any() {
				some.keep = func(r api.Repository) bool { return in.by.Limits.Covers(r.Name) }
			}
			return some.page(in.N, func(last api.Repository) string {
				return api.Root + "/repositories?" + url.Values{"n": {strconv.Itoa(in.N)}, "last": {last.Name}}.Encode()
			})
		})
	register(h, operation{"GET " + path, "get-repository",
		"Get a repository; slashes in its name may be escaped or not"},
		func(ctx context.Context, in *About) (*plain[api.Repository], error) {
			r, err := h.Repositories.Repository(ctx, in.Name)
			return &plain[api.Repository]{repositoryOf(r, true)}, err
		})
	register(h, operation{"DELETE " + path, "delete-repository", "Delete a repository with all its content"},
		func(ctx context.Context, in *About) (*deletion, error) {
			return removed(h.deleteRepository(ctx, in.by, in.Name), neverUnheard(in.by, in.Name))
		})
}

// deleteRepository deletes a repository, with an audit entry.
func (h *handler) deleteRepository(ctx context.Context, by control.Caller, name string) error {
	if h.Control.Writable(name, auth.ContentDelete) != nil {
		return control.Refuse(api.CodeManaged, api.TextReadOnly).
			WithHint("delete it in the parent registry; the deletion arrives with the next sync")
	}
	note := h.Control.AuditNote(by.Actor(), by.Sender, "delete", "repositories/"+name, "")
	return h.Repositories.DeleteRepository(ctx, name, note)
}
