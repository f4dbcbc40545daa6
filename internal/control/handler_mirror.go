package control

import (
	"context"
	"errors"
	"net/http"
	"time"

	"ferry/internal/mirror"
)

// An Import is an image of another registry on its way here.
type Import struct {
	ID         string     `json:"id"`
	Name       string     `json:"name"`
	Source     string     `json:"source"`
	Images     []string   `json:"images" nullable:"false" doc:"What it becomes here."`
	Digest     *string    `json:"digest" doc:"Null until the source said it."`
	State      string     `json:"state" enum:"Pending,Running,Succeeded,Failed"`
	Error      *string    `json:"error" doc:"Why it failed, or does not get on just now."`
	StartTime  time.Time  `json:"startTime"`
	EndTime    *time.Time `json:"endTime"`
	BytesTotal int64      `json:"bytesTotal"`
	BytesDone  int64      `json:"bytesDone"`
}

// An ImportPost asks for an image.
type ImportPost struct {
	Source               string   `json:"source" doc:"HOST/REPOSITORY:TAG or HOST/REPOSITORY@DIGEST; http:// before it is without TLS."`
	Images               []string `json:"images,omitempty" maxItems:"50" doc:"REPOSITORY:TAG here; none is the source's own name."`
	Repository           string   `json:"repository,omitempty" doc:"Copy it here without a tag."`
	Force                bool     `json:"force,omitempty" doc:"Move tags that exist."`
	Username             string   `json:"username,omitempty" maxLength:"1024"`
	Password             string   `json:"password,omitempty" maxLength:"65536"`
	CertificateAuthority string   `json:"certificateAuthority,omitempty" maxLength:"262144" doc:"PEM."`
}

func importOf(i mirror.Import) *Import {
	return &Import{
		ID: "/imports/" + i.ID, Name: i.ID, Source: i.Source, Images: i.Targets, Digest: text(string(i.Digest)), State: string(i.State),
		Error: text(i.Trouble), StartTime: i.StartedAt.UTC(), EndTime: moment(i.EndedAt),
		BytesTotal: i.Progress.BytesTotal, BytesDone: i.Progress.BytesDone,
	}
}

// A MirrorWrite is a call about one mirror rule.
type MirrorWrite struct {
	Write
	Name string `path:"name"`
}

func (a *api) mirrorRules() {
	desk := mirrorDesk{a.Service, a.Mirrors}
	const path = "/mirror-rules/{name}"
	answer := func(r MirrorRule, err error) (*reply[MirrorRule], error) {
		return &reply[MirrorRule]{ETag: etag(r.version), Body: r}, err
	}
	register(a, operation{http.MethodGet, "/mirror-rules", "list-mirror-rules", "List the mirror rules"},
		func(ctx context.Context, _ *struct{}) (*listing[MirrorRule], error) { return listed(desk.all(ctx)) })
	register(a, operation{http.MethodGet, path, "get-mirror-rule", "Get a mirror rule, and how its runs go"},
		func(ctx context.Context, in *struct {
			Name string `path:"name"`
		}) (*reply[MirrorRule], error) {
			return answer(desk.get(ctx, in.Name))
		})
	register(a, operation{http.MethodPut, path, "put-mirror-rule", "Create a mirror rule, or replace it"},
		func(ctx context.Context, in *struct {
			MirrorWrite
			Body MirrorRulePut
		}) (*reply[MirrorRule], error) {
			return answer(desk.put(ctx, in.by, in.Name, in.Body, in.when()))
		})
	register(a, operation{http.MethodPatch, path, "update-mirror-rule", "Change a mirror rule"},
		func(ctx context.Context, in *struct {
			MirrorWrite
			Body MirrorRulePatch
		}) (*reply[MirrorRule], error) {
			return answer(desk.update(ctx, in.by, in.Name, in.Body, in.when()))
		})
	register(a, operation{http.MethodDelete, path, "delete-mirror-rule", "Delete a mirror rule; the images that it brought stay"},
		func(ctx context.Context, in *MirrorWrite) (*nothing, error) {
			return nil, desk.delete(ctx, in.by, in.Name, in.when())
		})
	register(a, operation{http.MethodPost, path + "/run", "run-mirror-rule", "Run a mirror rule now, whatever its schedule says"},
		func(ctx context.Context, in *MirrorWrite) (*reply[MirrorRule], error) {
			return answer(desk.run(ctx, in.by, in.Name))
		})
}

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
			return &answer{*importOf(i)}, a.Service.noteImport(ctx, in.by, i)
		})
	register(a, operation{http.MethodGet, "/imports/{name}", "get-import", "Get how an import goes"},
		func(_ context.Context, in *struct {
			Name string `path:"name"`
		}) (*answer, error) {
			i, ok := a.Mirrors.ImportOf(in.Name)
			if !ok {
				return nil, problem(http.StatusNotFound, codeNotFound, "the import '%.100s' could not be found", in.Name).
					hint("the registry may have been restarted since; run the import again: it goes on from the same byte")
			}
			return &answer{*importOf(i)}, nil
		})
}

// importProblem is what the caller is told of an import that did not begin.
func importProblem(err error) error {
	switch {
	case errors.Is(err, mirror.ErrExists):
		return conflict("%s", err).hint("--force moves it")
	case errors.Is(err, mirror.ErrDiffers):
		return conflict("%s", err).hint("make it again once that is over; see ferry import list")
	case errors.Is(err, mirror.ErrBusy):
		return problem(http.StatusTooManyRequests, codeTooMany, "%s", err).hint("try again once some are done")
	case errors.Is(err, mirror.ErrStopped):
		return problem(http.StatusServiceUnavailable, codeInternal, "%s", err).hint("try again once it is back")
	case errors.As(err, new(mirror.RequestError)):
		return invalid("%s", err)
	}
	return err
}
