// Package management serves the management API over HTTP: the operations of control and fleet, for
// operators, under /api/v1/. Begin at [NewHandler].
package management

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/control"
	"ferry/internal/events"
	"ferry/internal/fleet"
	"ferry/internal/mirror"
	"ferry/internal/oci"
	"ferry/internal/storage"
)

// bodyTimeout bounds the time for reading a request's body. It is longer than huma's default, for
// slow links.
const bodyTimeout = time.Minute

// Repositories lists and deletes repositories; [storage.Storage] implements it.
type Repositories interface {
	Repositories(ctx context.Context, after string, limit int) ([]storage.Repository, error)
	Repository(ctx context.Context, name string) (storage.Repository, error)
	DeleteRepository(ctx context.Context, name string, notes ...storage.Note) error
}

// Mirrors runs mirror rules and imports; [mirror.Service] implements it.
type Mirrors interface {
	control.MirrorRunner
	// Import begins the import of an image, and records who requested it.
	Import(ctx context.Context, q mirror.ImportRequest) (mirror.Import, error)
	// Imports returns the latest imports, newest first.
	Imports(ctx context.Context) ([]mirror.Import, error)
	// ImportOf returns the current state of an import.
	ImportOf(ctx context.Context, id string) (mirror.Import, error)
	// CancelImport ends an import, and records who did so.
	CancelImport(ctx context.Context, id, actor, sender string) (mirror.Import, error)
}

// Options configure the management API. Control, Fleet, Authenticator and Repositories are
// required.
type Options struct {
	Control       *control.Service
	Fleet         *fleet.Service
	Authenticator Authenticator
	Repositories  Repositories
	Syncer        Syncer          // nil in a root
	Mirrors       Mirrors         // nil in a connected registry
	Scrubber      Scrubber        // nil leaves out its operations
	Purger        Purger          // nil in a connected registry
	Events        *events.Service // nil leaves out webhooks
	CAFingerprint func() string   // of the instance's own CA; nil if it has none
	ParentURL     func() string   // of the parent's gateway; nil in a root
	DataDir       string          // for the local handler
	Version       string          // of the program
	Log           *slog.Logger    // nil discards
	// Pass gets the handler of admitted operators' requests, and returns one that may pass some on to
	// another process; nil passes none on.
	Pass func(http.Handler) http.Handler
}

// NewHandler returns the management API, for the paths below /api/v1/. Its OpenAPI document is
// generated from the Go types, and is at /api/v1/openapi.json.
func NewHandler(o Options) http.Handler {
	h := newHandler(o)
	admitted := segments(h.mux)
	if o.Pass != nil {
		admitted = o.Pass(admitted)
	}
	return h.guard(admitted)
}

// NewLocalHandler returns the part of the management API that needs no login, for the local socket:
// the instance's role and sync status, and new passwords of operators. It changes nothing else.
func NewLocalHandler(o Options) http.Handler {
	made := sync.OnceValue(func() *handler { return newHandler(o) }) // few requests come, and it takes memory
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := made()
		path := strings.TrimPrefix(r.URL.Path, api.Root)
		if operator, ok := operatorInReset(r); ok {
			w.Header().Set("Cache-Control", "no-store")
			h.resetAtMachine(w, r, operator)
			return
		}
		switch {
		case r.Method != http.MethodGet, path != "/status" && path != "/sync" && path != "/sync/items":
			Refuse(w, control.Refuse(api.CodeDenied, "without a login an instance shows only its sync status").
				WithHint("log in as an operator: ferry login NAME --url URL -u admin --password-stdin"))
		default:
			w.Header().Set("Cache-Control", "no-store")
			h.mux.ServeHTTP(w, withPrincipal(r, localOwner()))
		}
	})
}

// localOwner is the caller on the local socket: the owner of the data directory.
func localOwner() *auth.Principal {
	return &auth.Principal{Kind: auth.KindOperator, Name: "(local)", Admin: true}
}

func newHandler(o Options) *handler {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	config := huma.DefaultConfig("Ferry management API", o.Version)
	config.DocsPath, config.SchemasPath, config.CreateHooks = "", "", nil
	config.RejectUnknownQueryParameters = true
	config.Transformers = []huma.Transformer{asProblem, belowPrefix}
	config.Security = []map[string][]string{{"basic": {}}}
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"basic": {Type: "http", Scheme: "basic",
			Description: "An operator. All operators may read, and those with the role admin may write."},
	}
	mux := http.NewServeMux()
	h := &handler{Options: o, mux: mux, huma: humago.NewWithPrefix(mux, api.Root, config)}
	h.scopeMaps()
	h.tokens()
	h.operators()
	h.auditLog()
	h.events()
	if o.Events != nil {
		h.webhooks(o.Events)
	}
	h.registries()
	h.fleet()
	h.repositories()
	h.status()
	h.sync()
	h.credentials()
	if o.Scrubber != nil {
		h.scrub()
	}
	if o.Purger != nil {
		h.purges()
	}
	if o.Mirrors != nil {
		h.mirrorRules()
		h.imports()
	} else {
		for _, path := range []string{"/mirror-rules", "/mirror-rules/", "/imports", "/imports/"} {
			mux.HandleFunc(api.Root+path, followsParent)
		}
	}
	if err := describe(h.huma.OpenAPI()); err != nil {
		panic(err) // the tests serve every operation
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		Refuse(w, control.Refuse(api.CodeNotFound, "there is no %.10s %.200s in the management API", r.Method,
			r.URL.Path).
			WithHint("see %s/openapi.json", api.Root))
	})
	return h
}

// followsParent refuses mirror rules and imports in a connected registry.
func followsParent(w http.ResponseWriter, _ *http.Request) {
	Refuse(w, control.Refuse(api.CodeNotFound, "a connected registry gets content only from its parent").
		WithHint("create mirror rules and imports at the root registry"))
}

// A handler serves the operations of the management API.
type handler struct {
	Options
	mux  *http.ServeMux
	huma huma.API
}

// segments makes a repository's name one segment of the path, so that callers need not escape its
// slashes.
func segments(next http.Handler) http.Handler {
	const prefix = api.Root + "/repositories/"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name, ok := strings.CutPrefix(r.URL.Path, prefix); ok && strings.Contains(name, "/") &&
			oci.CheckRepository(name) == nil {
			u := *r.URL
			u.RawPath = prefix + url.PathEscape(name)
			escaped := *r
			escaped.URL = &u
			r = &escaped
		}
		next.ServeHTTP(w, r)
	})
}

func (h *handler) status() {
	register(h, operation{"GET /status", "get-status", "Get the role of this instance, and its sync status"},
		func(context.Context, *struct{}) (*plain[api.InstanceStatus], error) {
			v := api.InstanceStatus{Role: "root", Version: h.Version, InstanceID: h.Control.InstanceID()}
			if self := h.Control.Self(); self != "" {
				v.Role, v.Name, v.Sync = "connected", self, h.Fleet.SyncStatus()
				v.Parent = &api.InstanceParent{}
				if h.ParentURL != nil {
					v.Parent.URL = h.ParentURL()
				}
				if own := h.Control.State().Registry(self); own != nil { // else it was never activated
					v.Parent.Schedule, v.Parent.SyncWindow = own.Settings.Schedule, own.Settings.SyncWindow
				}
			}
			if h.CAFingerprint != nil {
				v.CAFingerprint = h.CAFingerprint()
			}
			return &plain[api.InstanceStatus]{v}, nil
		})
}

// An operation describes one operation to register.
type operation struct {
	pattern     string // METHOD /path
	id, summary string
}

// register adds an operation. All its errors are answered as problems.
func register[I, O any](h *handler, op operation, answer answer[I, O]) {
	method, path, _ := strings.Cut(op.pattern, " ")
	o := huma.Operation{Method: method, Path: path, OperationID: op.id, Summary: op.summary,
		BodyReadTimeout: bodyTimeout, Middlewares: huma.Middlewares{h.admit(op)}}
	schema := h.huma.OpenAPI().Components.Schemas.Schema(problemType, true, "")
	o.Responses = map[string]*huma.Response{"default": {
		Description: "What went wrong.", Content: map[string]*huma.MediaType{typeProblem: {Schema: schema}},
	}}
	if method == http.MethodDelete {
		o.Responses["204"] = &huma.Response{Description: "It is deleted, and all affected connected registries know."}
	}
	huma.Register(h.huma, o, func(ctx context.Context, in *I) (*O, error) {
		out, err := answer(ctx, in)
		if err != nil {
			return nil, h.problemOf(ctx, op, err)
		}
		return out, nil
	})
}
