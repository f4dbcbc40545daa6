// Package registry serves the HTTP API of the OCI distribution specification, version
// 1.1, and the lists with attributes below /acr/v1/. request.go parses requests. routes.go
// has, for each endpoint, the access that it needs and its handler. One method writes
// all errors, in the specified form.
package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"ferry/internal/auth"
	"ferry/internal/memlimit"
	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage"
)

// An Authorizer decides whether a request is allowed every access in need. Its errors
// are [auth.ChallengeError]s or those of the specification.
type Authorizer interface {
	Authorize(r *http.Request, need ...auth.Access) (auth.Grant, error)
	// AuthorizeFirst returns the grant for one of the accesses in need, and its repository; see
	// [auth.Authenticator.AuthorizeFirst].
	AuthorizeFirst(r *http.Request, exists func(ctx context.Context, repository string) (bool, error),
		need ...auth.Access) (auth.Grant, string, error)
}

// An Auditor records changes and their authors. action is "delete" or "lock", object is
// such as "repositories/app/tags/v1", detail may be "".
type Auditor interface {
	AuditNote(actor, sender, action, object, detail string) func(*metadb.Tx) error
}

// Options configure a Registry. Storage and Authorizer are required.
type Options struct {
	Storage    *storage.Storage
	Authorizer Authorizer
	// Writable returns an error if clients may not do the actions of need on a repository, whoever they
	// are; nil allows everything.
	Writable func(repository string, need ...auth.Action) error
	Lockable func() error // returns nil if locks may be set here; if Lockable is nil, they may
	Mirrors  MirrorNames
	Auditor  Auditor // records deletions and lock changes; nil records nothing
	// Pulled is called when a client has pulled a manifest; it must not wait. nil is not called.
	Pulled func(repository string, d digest.Digest)
	// Redirects reports whether a client fetches blobs from the blob store itself, if that has URLs; nil
	// is no client.
	Redirects func(sender netip.Addr) bool
	Version   string       // of the program, for those who log in; "" is not sent
	Log       *slog.Logger // nil discards
}

// A Registry is the handler of /v2/ and /acr/v1/.
type Registry struct {
	storage    *storage.Storage
	authorizer Authorizer
	writable   func(repository string, need ...auth.Action) error
	lockable   func() error
	mirrors    MirrorNames
	auditor    Auditor
	pulled     func(repository string, d digest.Digest)
	redirects  func(sender netip.Addr) bool // nil is no client
	version    string
	log        *slog.Logger
	scan       int // maximum number of repositories that a catalog request scans

	receiving, storing, sending *memlimit.Pool // for manifests in memory
}

// New returns the handler.
func New(o Options) *Registry {
	r := &Registry{
		storage: o.Storage, authorizer: o.Authorizer, writable: o.Writable, lockable: o.Lockable,
		scan: maxScan, auditor: o.Auditor, mirrors: o.Mirrors,
		pulled:    o.Pulled,
		redirects: o.Redirects,
		log:       cmp.Or(o.Log, slog.New(slog.DiscardHandler)),
		version:   o.Version,
		receiving: memlimit.New(maxReceiving, maxWait), storing: memlimit.New(maxStoring, maxWait),
		sending: memlimit.New(maxSending, maxWait),
	}
	if r.pulled == nil {
		r.pulled = func(string, digest.Digest) {}
	}
	if r.lockable == nil {
		r.lockable = func() error { return nil }
	}
	if r.writable == nil {
		r.writable = func(string, ...auth.Action) error { return nil }
	}
	return r
}

// ServeHTTP implements http.Handler.
func (g *Registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header()["Docker-Distribution-Api-Version"] = apiVersion
	if err := g.serve(w, r); err != nil {
		g.writeError(w, r, err)
	}
}

// apiVersion is a header value that Docker's clients look for. It is never modified.
var apiVersion = []string{"registry/2.0"}

func (g *Registry) serve(w http.ResponseWriter, r *http.Request) error {
	q, err := parse(r)
	if err == nil {
		err = g.setAlternatives(q)
	}
	if err != nil {
		// An anonymous client learns nothing, not even that the path is wrong.
		if _, err := g.authorizer.Authorize(r); err != nil {
			return err
		}
		return err
	}
	if q.route.write {
		err := g.writable(q.repository, q.route.need...)
		if err == nil && q.route.lock {
			err = g.lockable()
		}
		if err != nil {
			// The client must be known, but its rights do not matter: nobody may write.
			if _, err := g.authorizer.Authorize(r); err != nil {
				return err
			}
			return err
		}
	}
	if err := g.authorize(q); err != nil {
		return err
	}
	return q.nameUnknown(q.route.handle(g, w, q))
}

// nameUnknown adds the requested tag, digest or repository to an error that only says
// that it is unknown.
func (q *request) nameUnknown(err error) error {
	e := oci.AsError(err)
	switch {
	case e == nil:
	case e.Message == oci.ErrManifestUnknown.Message && q.reference != "":
		return e.With("%s: %s of %s", e.Message, q.reference, q.name())
	case e.Message == oci.ErrBlobUnknown.Message && q.reference != "":
		return e.With("%s: %s of %s", e.Message, q.reference, q.name())
	case e.Message == oci.ErrNameUnknown.Message:
		return e.With("%s: %s", e.Message, q.name())
	}
	return err
}

// writeError writes err in the specified form. Nothing else does.
func (g *Registry) writeError(w http.ResponseWriter, r *http.Request, err error) {
	if challenge, ok := errors.AsType[*auth.ChallengeError](err); ok {
		challenge.SetHeaders(w.Header())
	}
	if method, ok := errors.AsType[*methodError](err); ok {
		w.Header().Set("Allow", method.allow)
	}
	e := oci.AsError(err)
	if e == nil {
		e = oci.ErrInternal
		if r.Context().Err() == nil { // otherwise the client is gone, which is the cause
			g.log.Error("registry request failed", "method", r.Method, "path", r.URL.Path, "err", err)
		}
	}
	if e.Status == http.StatusInsufficientStorage {
		g.log.Error("disk is full", "path", r.URL.Path, "err", err)
	}
	oci.WriteError(w, e)
}

// auditNote returns a function that records, in the transaction of a change, that the
// client did action to the tag, manifest, blob or repository of the request.
func (g *Registry) auditNote(q *request, action, detail string) storage.Note {
	if g.auditor == nil {
		return func(*metadb.Tx) error { return nil }
	}
	object := "repositories/" + q.repository
	_, form := cutLast(q.endpoint.path)
	switch {
	case q.reference == "":
	case strings.Contains(q.endpoint.path, "/blobs/"):
		object += "/blobs/" + q.reference
	case form == "<tag>", !oci.IsDigest(q.reference):
		object += "/tags/" + q.reference
	default:
		object += "/manifests/" + q.reference
	}
	return g.auditor.AuditNote(q.grant.Actor(), q.grant.Sender(), action, object, detail)
}

// headerVersion is the header with the version of the program. `ferry doctor` compares it with its
// own.
const headerVersion = "Ferry-Version"

func (g *Registry) ping(w http.ResponseWriter, q *request) error {
	if g.version != "" && q.grant.Name() != "" {
		w.Header().Set(headerVersion, g.version)
	}
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
