package control

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage"
)

// root is where the management API is.
const root = "/api/v1"

// bodyTimeout is how long the body of a request may take: longer than huma's
// own, for links that are slow.
const bodyTimeout = time.Minute

// Repositories is what the API says of content, and may do with it;
// [storage.Storage] is one.
type Repositories interface {
	Repositories(ctx context.Context, after string, limit int) ([]storage.Repository, error)
	Repository(ctx context.Context, name string) (storage.Repository, error)
	Tags(ctx context.Context, repository, after string, limit int) ([]storage.Tag, error)
	SortedTags(ctx context.Context, repository string, o storage.TagOrder, after string, limit int) ([]storage.Tag, error)
	DeleteRepository(ctx context.Context, name, origin string) error
}

// HandlerOptions are what the management API is made of. Service,
// Authenticator and Repositories are required.
type HandlerOptions struct {
	Service       *Service
	Authenticator Authenticator
	Repositories  Repositories
	Syncer        Syncer       // nil in a root
	Mirrors       Mirrors      // nil in a connected registry
	Version       string       // of the program
	Log           *slog.Logger // nil discards
}

// NewHandler returns the management API, for the paths below /api/v1/. Its
// OpenAPI document, which is made from the types here, is at
// /api/v1/openapi.json.
func NewHandler(o HandlerOptions) http.Handler {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	config := huma.DefaultConfig("Ferry management API", o.Version)
	config.DocsPath, config.SchemasPath, config.CreateHooks = "", "", nil
	config.RejectUnknownQueryParameters = true
	config.Transformers = []huma.Transformer{asProblem}
	config.Security = []map[string][]string{{"basic": {}}}
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"basic": {Type: "http", Scheme: "basic", Description: "An operator. Any may read, those with the role admin may write."},
	}
	mux := http.NewServeMux()
	a := &api{HandlerOptions: o, huma: humago.NewWithPrefix(mux, root, config)}
	a.scopeMaps()
	a.tokens()
	a.registries()
	a.repositories()
	a.status()
	a.sync()
	if o.Mirrors != nil {
		a.mirrorRules()
		a.imports()
	} else {
		for _, path := range []string{"/mirror-rules", "/mirror-rules/", "/imports", "/imports/"} {
			mux.HandleFunc(root+path, followsParent)
		}
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, problem(http.StatusNotFound, codeNotFound, "there is no %.10s %.200s in the management API", r.Method, r.URL.Path).
			hint("see %s/openapi.json", root))
	})
	return a.guard(segments(mux))
}

// followsParent answers what asks a connected registry to follow another.
func followsParent(w http.ResponseWriter, _ *http.Request) {
	writeProblem(w, problem(http.StatusNotFound, codeNotFound, "a connected registry follows its parent alone").
		hint("make mirror rules, and imports, at the root registry"))
}

// An api is the management API's operations.
type api struct {
	HandlerOptions
	huma huma.API
}

// segments makes one segment of a repository's name in a path, whose slashes
// a caller need not escape.
func segments(next http.Handler) http.Handler {
	const prefix = root + "/repositories/"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name, ok := strings.CutPrefix(r.URL.Path, prefix); ok && strings.Contains(name, "/") && oci.CheckRepository(name) == nil {
			u := *r.URL
			u.RawPath = prefix + url.PathEscape(name)
			escaped := *r
			escaped.URL = &u
			r = &escaped
		}
		next.ServeHTTP(w, r)
	})
}

// An operation is what register needs to know of one.
type operation struct {
	method, path, id, summary string
}

// register adds an operation whose errors, all of them, are problems.
func register[I, O any](a *api, op operation, answer func(context.Context, *I) (*O, error)) {
	o := huma.Operation{Method: op.method, Path: op.path, OperationID: op.id, Summary: op.summary, BodyReadTimeout: bodyTimeout}
	schema := a.huma.OpenAPI().Components.Schemas.Schema(problemType, true, "")
	o.Responses = map[string]*huma.Response{"default": {
		Description: "What went wrong.", Content: map[string]*huma.MediaType{typeProblem: {Schema: schema}},
	}}
	huma.Register(a.huma, o, func(ctx context.Context, in *I) (*O, error) {
		out, err := answer(ctx, in)
		if err != nil {
			return nil, a.problemOf(ctx, op, err)
		}
		return out, nil
	})
}

// problemOf turns whatever went wrong into what the caller is told.
func (a *api) problemOf(ctx context.Context, op operation, err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	if errors.Is(err, oci.ErrNoSpace) || metadb.IsFull(err) {
		a.Log.Error("disk is full", "operation", op.id, "err", err)
		return problem(http.StatusInsufficientStorage, codeNoSpace, "%s", oci.ErrNoSpace.Message).
			hint("make room there; what is stored is served meanwhile")
	}
	if e := oci.AsError(err); e != nil && e.Status < 500 {
		code := codeInvalid
		switch e.Status {
		case http.StatusNotFound:
			code = codeNotFound
		case http.StatusForbidden:
			code = codeDenied
		}
		return problem(e.Status, code, "%s", e.Message)
	}
	if ctx.Err() == nil {
		a.Log.Error("management request failed", "operation", op.id, "err", err)
	}
	return problem(http.StatusInternalServerError, codeInternal, internalErrorText)
}

// asProblem makes a problem of what huma itself refuses.
func asProblem(_ huma.Context, _ string, v any) (any, error) {
	e, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	p := problem(e.Status, codeInvalid, "%s", e.Detail)
	switch e.Status {
	case http.StatusRequestEntityTooLarge:
		p.Code = codeTooLarge
	case http.StatusInternalServerError:
		p.Code, p.Detail = codeInternal, internalErrorText
		return p, nil
	}
	for _, fault := range e.Errors {
		if fault != nil { // its value stays out: it could be anything
			p.Errors = append(p.Errors, Fault{Message: fault.Message, Location: fault.Location})
		}
	}
	return p, nil
}

// A reply is a resource with its entity tag.
type reply[T any] struct {
	ETag string `header:"ETag"`
	Body T
}

// A listing is resources of one kind.
type listing[T any] struct {
	Body struct {
		Value []T `json:"value" nullable:"false"`
	}
}

func listed[T any](all []T, err error) (*listing[T], error) {
	l := &listing[T]{}
	l.Body.Value = all
	return l, err
}

// nothing is the answer to what needs none.
type nothing struct{}
