package management

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"ferry/internal/api"
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

// A repositoryPage is a part of the repositories, by name.
type repositoryPage struct {
	Body struct {
		Value    []api.Repository `json:"value" nullable:"false"`
		NextLink string           `json:"nextLink,omitempty" doc:"Where the next page is; not there on the last one."`
	}
}

func (h *handler) repositories() {
	const path = "/repositories/{name}"
	register(h, operation{http.MethodGet, "/repositories", "list-repositories", "List the repositories, by name"},
		func(ctx context.Context, in *struct {
			N    int    `query:"n" minimum:"1" maximum:"1000" default:"100" doc:"How many at most."`
			Last string `query:"last" doc:"Begin after this one."`
		}) (*repositoryPage, error) {
			rows, err := h.Repositories.Repositories(ctx, in.Last, in.N+1)
			page := &repositoryPage{}
			page.Body.Value = []api.Repository{}
			if len(rows) > in.N {
				rows = rows[:in.N]
				page.Body.NextLink = api.Root + "/repositories?" + url.Values{"n": {strconv.Itoa(in.N)}, "last": {rows[in.N-1].Name}}.Encode()
			}
			for _, r := range rows {
				page.Body.Value = append(page.Body.Value, repositoryOf(r, false))
			}
			return page, err
		})
	register(h, operation{http.MethodGet, path, "get-repository", "Get a repository; slashes in its name may be escaped or not"},
		func(ctx context.Context, in *About) (*struct{ Body api.Repository }, error) {
			r, err := h.Repositories.Repository(ctx, in.Name)
			return &struct{ Body api.Repository }{repositoryOf(r, true)}, err
		})
	register(h, operation{http.MethodDelete, path, "delete-repository", "Delete a repository with all that is in it"},
		func(ctx context.Context, in *About) (*nothing, error) {
			return nil, h.deleteRepository(ctx, in.by, in.Name)
		})
}

// deleteRepository notes who did it before it is done: the content has its
// own transaction, and nothing may go without a trace.
func (h *handler) deleteRepository(ctx context.Context, by control.Caller, name string) error {
	if !h.Control.Writable() {
		return control.Refuse(api.CodeManaged, "This operation is not allowed on this registry.").
			WithHint("delete it in the parent registry; that arrives with the next sync")
	}
	if _, err := h.Repositories.Repository(ctx, name); err != nil {
		return err
	}
	if err := h.Control.Record(ctx, by, "delete", "repositories/"+name); err != nil {
		return err
	}
	return h.Repositories.DeleteRepository(ctx, name)
}
