package control

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"ferry/internal/metadb"
	"ferry/internal/storage"
)

func repositoryOf(r storage.Repository, counted bool) Repository {
	v := Repository{Name: r.Name, CreatedTime: r.CreatedAt, LastUpdateTime: r.UpdatedAt}
	if counted {
		v.ManifestCount, v.TagCount = &r.Manifests, &r.Tags
	}
	return v
}

// A repositoryPage is a part of the repositories, by name.
type repositoryPage struct {
	Body struct {
		Value    []Repository `json:"value" nullable:"false"`
		NextLink string       `json:"nextLink,omitempty" doc:"Where the next page is; not there on the last one."`
	}
}

func (a *api) repositories() {
	const path = "/repositories/{name}"
	register(a, operation{http.MethodGet, "/repositories", "list-repositories", "List the repositories, by name"},
		func(ctx context.Context, in *struct {
			N    int    `query:"n" minimum:"1" maximum:"1000" default:"100" doc:"How many at most."`
			Last string `query:"last" doc:"Begin after this one."`
		}) (*repositoryPage, error) {
			rows, err := a.Repositories.Repositories(ctx, in.Last, in.N+1)
			page := &repositoryPage{}
			page.Body.Value = []Repository{}
			if len(rows) > in.N {
				rows = rows[:in.N]
				page.Body.NextLink = root + "/repositories?" + url.Values{"n": {strconv.Itoa(in.N)}, "last": {rows[in.N-1].Name}}.Encode()
			}
			for _, r := range rows {
				page.Body.Value = append(page.Body.Value, repositoryOf(r, false))
			}
			return page, err
		})
	register(a, operation{http.MethodGet, path, "get-repository", "Get a repository; slashes in its name may be escaped or not"},
		func(ctx context.Context, in *struct {
			Name string `path:"name"`
		}) (*struct{ Body Repository }, error) {
			r, err := a.Repositories.Repository(ctx, in.Name)
			return &struct{ Body Repository }{repositoryOf(r, true)}, err
		})
	register(a, operation{http.MethodDelete, path, "delete-repository", "Delete a repository with all that is in it"},
		func(ctx context.Context, in *struct {
			Call
			Name string `path:"name"`
		}) (*nothing, error) {
			return nil, a.deleteRepository(ctx, in.by, in.Name)
		})
}

// deleteRepository notes who did it before it is done: the content has its
// own transaction, and nothing may go without a trace.
func (a *api) deleteRepository(ctx context.Context, by Caller, name string) error {
	if !a.Service.Writable() {
		return problem(http.StatusForbidden, codeManaged, "This operation is not allowed on this registry.").
			hint("delete it in the parent registry; that arrives with the next sync")
	}
	if _, err := a.Repositories.Repository(ctx, name); err != nil {
		return err
	}
	err := a.Service.update(ctx, func(tx *metadb.Tx) error {
		return a.Service.audit(tx, by, "delete", "repositories/"+name)
	})
	if err != nil {
		return err
	}
	return a.Repositories.DeleteRepository(ctx, name, "")
}
