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
			by := in.by
			q := mirror.ImportRequest{
				Source: in.Body.Source, Images: in.Body.Images, Repository: in.Body.Repository, Force: in.Body.Force,
				Username: in.Body.Username, Password: in.Body.Password, CA: in.Body.CertificateAuthority,
			}
			if in.by.Limits.Any() {
				q.Covers = in.by.Limits.Covers
			}
			audited := make(chan struct{}) // the start, which the log has before the end
			defer close(audited)
			q.Ended = func(i mirror.Import) {
				<-audited
				outcome := "succeeded"
				if i.State == mirror.ImportFailed {
					outcome = "failed: " + i.Problem
				}
				h.Control.AuditOutcome(ctx, by, "import", "imports/"+i.ID, outcome)
			}
			i, err := h.Mirrors.Import(ctx, q)
			if err != nil {
				return nil, importProblem(err)
			}
			return &shown{importOf(i)}, h.Control.AuditAlone(ctx, in.by, "import", "imports/"+i.ID, "from "+i.Source)
		})
	register(h, operation{"GET /imports", "list-imports", "List the imports, newest first"},
		func(_ context.Context, in *Call) (*collection[api.Import], error) {
			all := []api.Import{}
			for _, i := range h.Mirrors.Imports() {
				if seesImages(in.by.Limits, i.Targets) {
					all = append(all, importOf(i))
				}
			}
			return listed(all, nil)
		})
	register(h, operation{"GET /imports/{name}", "get-import", "Get the state of an import"},
		func(_ context.Context, in *About) (*shown, error) {
			i, ok := h.Mirrors.ImportOf(in.Name)
			if !ok || !seesImages(in.by.Limits, i.Targets) {
				return nil, control.Refuse(api.CodeNotFound, "the import '%.100s' could not be found", in.Name).
					WithHint("see ferry import list; the registry may have been restarted since: " +
						"run the import again; it resumes at the same byte")
			}
			return &shown{importOf(i)}, nil
		})
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

// importProblem returns the answer to an import that did not start.
func importProblem(err error) error {
	switch {
	case errors.Is(err, mirror.ErrOutside):
		return control.Refuse(api.CodeDenied, "%s", err).WithHint("ask an operator without limits")
	case errors.Is(err, mirror.ErrExists):
		return control.Conflict("%s", err).WithHint("repeat the import with --force, which moves the tag")
	case errors.Is(err, mirror.ErrDiffers):
		return control.Conflict("%s", err).WithHint("run it again when that import has ended; see ferry import list")
	case errors.Is(err, mirror.ErrBusy):
		return control.Refuse(api.CodeTooMany, "%s", err).WithHint("try again when some imports have ended")
	case errors.Is(err, mirror.ErrStopped):
		return control.Refuse(api.CodeInternal, "%s", err).WithHint("try again when the registry is running again")
	case errors.As(err, new(mirror.RequestError)):
		return control.Invalid("%s", err)
	}
	return err
}
