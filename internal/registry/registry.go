// Package registry is the HTTP API of the OCI distribution specification,
// version 1.1, and the listings with attributes below /acr/v1/. A request is
// parsed into one end-point, its access is decided in one place, and every error
// is written in the specification's form in one place.
package registry

import (
	"cmp"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/sync/semaphore"

	"ferry/internal/auth"
	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage"
)

// An Authorizer decides whether a request may have every access in need. Its
// errors are [auth.ChallengeError]s or the specification's.
type Authorizer interface {
	Authorize(r *http.Request, need ...auth.Access) (auth.Grant, error)
}

// An Auditor notes changes with their authors: "delete" or "lock", of "repositories/app/tags/v1".
// The detail says more where there is more.
type Auditor interface {
	Note(actor, source, action, object, detail string) func(*metadb.Tx) error
}

// Options are what a Registry is made of. Storage and Authorizer are required.
type Options struct {
	Storage    *storage.Storage
	Authorizer Authorizer
	// Writable reports whether clients may write; nil is always.
	Writable func() bool
	Auditor  Auditor      // of deletions and changes of locks; nil notes nothing
	Log      *slog.Logger // nil discards
}

// A Registry answers /v2/ and /acr/v1/.
type Registry struct {
	storage    *storage.Storage
	authorizer Authorizer
	writable   func() bool
	auditor    Auditor
	log        *slog.Logger
	scan       int // how many repositories one request for the catalog looks at

	reading, storing, serving *semaphore.Weighted // bytes of manifests that are in work
	loading                   *semaphore.Weighted // large manifests that are read from the database
}

// New returns the handler.
func New(o Options) *Registry {
	r := &Registry{
		storage: o.Storage, authorizer: o.Authorizer, writable: o.Writable, scan: maxScan, auditor: o.Auditor,
		log:     cmp.Or(o.Log, slog.New(slog.DiscardHandler)),
		reading: semaphore.NewWeighted(maxReading), storing: semaphore.NewWeighted(maxStoring),
		serving: semaphore.NewWeighted(maxServing), loading: semaphore.NewWeighted(maxLoading),
	}
	if r.writable == nil {
		r.writable = func() bool { return true }
	}
	return r
}

// errReadOnly is the reference's word for a write to a ReadOnly connected registry.
var errReadOnly = oci.ErrDenied.With("This operation is not allowed on this registry.")

// ServeHTTP implements http.Handler.
func (g *Registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header()["Docker-Distribution-Api-Version"] = apiVersion
	if err := g.serve(w, r); err != nil {
		g.fail(w, r, err)
	}
}

// apiVersion is what Docker's clients look for. It is only read.
var apiVersion = []string{"registry/2.0"}

func (g *Registry) serve(w http.ResponseWriter, r *http.Request) error {
	q, err := parse(r)
	if err != nil {
		// A stranger learns nothing, not even that the path is wrong.
		if _, err := g.authorizer.Authorize(r); err != nil {
			return err
		}
		return err
	}
	if q.rule.write && !g.writable() {
		// Who it is matters, what it may do does not: nobody may do this here.
		if _, err := g.authorizer.Authorize(r); err != nil {
			return err
		}
		return errReadOnly
	}
	if q.grant, err = g.authorizer.Authorize(r, q.need...); err != nil {
		return err
	}
	return q.name(q.rule.handle(g, w, q))
}

// name says what it is that is unknown, where an error does not.
func (q *request) name(err error) error {
	e := oci.AsError(err)
	switch {
	case e == nil:
	case e.Message == oci.ErrManifestUnknown.Message && q.reference != "":
		return e.With("%s: %s of %s", e.Message, q.reference, q.repository)
	case e.Message == oci.ErrBlobUnknown.Message && q.reference != "":
		return e.With("%s: %s of %s", e.Message, q.reference, q.repository)
	case e.Message == oci.ErrNameUnknown.Message:
		return e.With("%s: %s", e.Message, q.repository)
	}
	return err
}

// fail writes err in the specification's form. It is the only place that does.
func (g *Registry) fail(w http.ResponseWriter, r *http.Request, err error) {
	if challenge, ok := errors.AsType[*auth.ChallengeError](err); ok {
		challenge.SetHeaders(w.Header())
	}
	if method, ok := errors.AsType[*methodError](err); ok {
		w.Header().Set("Allow", method.allow)
	}
	e := oci.AsError(err)
	if e == nil {
		e = oci.ErrInternal
		if r.Context().Err() == nil { // else nobody is there, and that is why
			g.log.Error("registry request failed", "method", r.Method, "path", r.URL.Path, "err", err)
		}
	}
	if e.Status == http.StatusInsufficientStorage {
		g.log.Error("disk is full", "path", r.URL.Path, "err", err)
	}
	oci.WriteError(w, e)
}

// note returns what the audit log gets of a request once it is done: who did
// action to the tag, manifest or blob that it is about, or to the repository.
func (g *Registry) note(q *request, action, detail string) storage.Note {
	if g.auditor == nil {
		return func(*metadb.Tx) error { return nil }
	}
	object := "repositories/" + q.repository
	_, form := cutLast(q.at.path)
	switch {
	case q.reference == "":
	case strings.Contains(q.at.path, "/blobs/"):
		object += "/blobs/" + q.reference
	case form == "<tag>", !oci.IsDigest(q.reference):
		object += "/tags/" + q.reference
	default:
		object += "/manifests/" + q.reference
	}
	return g.auditor.Note(q.grant.Name(), q.grant.Source(), action, object, detail)
}

func (g *Registry) ping(w http.ResponseWriter, _ *request) error {
	return writeJSON(w, struct{}{})
}

func writeJSON(w http.ResponseWriter, v any) error { return writeJSONAs(w, "application/json", v) }

func writeJSONAs(w http.ResponseWriter, mediaType string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Write(body) // a client that went away needs no answer
	return nil
}
