package control

import (
	"context"
	"net/http"

	"ferry/internal/mirror"
)

func (a *api) imports() {
	type answer struct{ Body Import }
	register(a, operation{http.MethodPost, "/imports", "import", "Bring an image of another registry here, once"},
		func(ctx context.Context, in *struct {
			Call
			Body ImportPost
		}) (*answer, error) {
			i, err := a.Mirrors.Import(ctx, mirror.ImportRequest{
				Source: in.Body.Source, Images: in.Body.Images, Repository: in.Body.Repository, Force: in.Body.Force,
				Username: in.Body.Username, Password: in.Body.Password, CA: in.Body.CertificateAuthority,
			})
			if err != nil {
				return nil, importProblem(err)
			}
			return &answer{importOf(i)}, a.Service.noteImport(ctx, in.by, i)
		})
	register(a, operation{http.MethodGet, "/imports", "list-imports", "List the imports, the latest first"},
		func(context.Context, *struct{}) (*listing[Import], error) {
			all := []Import{}
			for _, i := range a.Mirrors.Imports() {
				all = append(all, importOf(i))
			}
			return listed(all, nil)
		})
	register(a, operation{http.MethodGet, "/imports/{name}", "get-import", "Get how an import goes"},
		func(_ context.Context, in *struct {
			Name string `path:"name"`
		}) (*answer, error) {
			i, ok := a.Mirrors.ImportOf(in.Name)
			if !ok {
				return nil, problem(http.StatusNotFound, codeNotFound, "the import '%.100s' could not be found", in.Name).
					hint("see ferry import list; the registry may have been restarted since: run the import again, and it goes on from the same byte")
			}
			return &answer{importOf(i)}, nil
		})
}
