package management

import (
	"context"
	"errors"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/mirror"
)

func (h *handler) imports() {
	type shown = plain[api.Import]
	register(h, operation{"POST /imports", "import", "Copy an image from another registry, once"},
		func(ctx context.Context, in *struct {
			Call
			Body api.ImportPost
		}) (*shown, error) {
			q := mirror.ImportRequest{
				Source: in.Body.Source, Images: in.Body.Images, Repository: in.Body.Repository, Force: in.Body.Force,
				Username: in.Body.Username, Password: in.Body.Password, CA: in.Body.CertificateAuthority,
				Actor: in.by.Actor(), Sender: in.by.Sender,
			}
			if in.by.Limits.Any() {
				q.Covers = in.by.Limits.Covers
			}
			i, err := h.Mirrors.Import(ctx, q)
			if err != nil {
				return nil, importProblem(err)
			}
			return &shown{importOf(i)}, nil
		})
	register(h, operation{"GET /imports", "list-imports", "List the imports, newest first"},
		func(ctx context.Context, in *Call) (*collection[api.Import], error) {
			imports, err := h.Mirrors.Imports(ctx)
			all := []api.Import{}
			for _, i := range imports {
				if seesImages(in.by.Limits, i.Targets) {
					all = append(all, importOf(i))
				}
			}
			return listed(all, err)
		})
	register(h, operation{"GET /imports/{name}", "get-import", "Get the state of an import"},
		func(ctx context.Context, in *About) (*shown, error) {
			i, err := h.visibleImport(ctx, in)
			return &shown{importOf(i)}, err
		})
	register(h, operation{"POST /imports/{name}/cancel", "cancel-import", "Cancel an import that has not ended"},
		func(ctx context.Context, in *About) (*shown, error) {
			if _, err := h.visibleImport(ctx, in); err != nil {
				return nil, err
			}
			i, err := h.Mirrors.CancelImport(ctx, in.Name, in.by.Actor(), in.by.Sender)
			if err != nil {
				return nil, importProblem(err)
			}
			return &shown{importOf(i)}, nil
		})
}

// visibleImport returns an import all of whose images are within the limits of the caller.
func (h *handler) visibleImport(ctx context.Context, in *About) (mirror.Import, error) {
	i, err := h.Mirrors.ImportOf(ctx, in.Name)
	if errors.Is(err, mirror.ErrNoImport) || err == nil && !seesImages(in.by.Limits, i.Targets) {
		err = control.Refuse(api.CodeNotFound, "the import '%.100s' could not be found", in.Name).
			WithHint("see ferry import list")
	}
	return i, err
}

func importOf(i mirror.Import) api.Import {
	return api.Import{
		ID: "/imports/" + i.ID, Name: i.ID, Source: i.Source, Images: i.Targets, Digest: api.Text(string(i.Digest)),
		State: string(i.State),
		Error: api.Text(i.Problem), Hint: api.Text(i.Hint), StartTime: i.StartedAt.UTC(), EndTime: api.Time(i.EndedAt),
		ByteProgress: api.ByteProgressOf(i.Progress.BytesDone, i.Progress.BytesTotal, i.Progress.ItemsUnplanned(),
			i.BytesPerSecond),
		Warnings: control.SourceWarnings(i.Warnings),
	}
}

// importProblem returns the answer to an import that did not start, or was not cancelled.
func importProblem(err error) error {
	switch {
	case errors.Is(err, mirror.ErrOutside):
		return control.Refuse(api.CodeDenied, "%s", err).WithHint("ask an operator without limits")
	case errors.Is(err, mirror.ErrExists):
		return control.Conflict("%s", err).WithHint("repeat the import with --force, which moves the tag")
	case errors.Is(err, mirror.ErrDiffers):
		return control.Conflict("%s", err).
			WithHint("cancel that import, or run this one when it has ended; see ferry import list")
	case errors.Is(err, mirror.ErrBusy):
		return control.Refuse(api.CodeTooMany, "%s", err).WithHint("try again when some imports have ended")
	case errors.Is(err, mirror.ErrEnded):
		return control.Conflict("%s", err).WithHint("see ferry import show")
	case errors.As(err, new(mirror.RequestError)):
		return control.Invalid("%s", err)
	}
	return err
}
