package registry

import (
	"net/http"
	"slices"
	"strings"

	"ferry/internal/auth"
	"ferry/internal/oci"
)

// A request is an HTTP request with its parsed path.
type request struct {
	*http.Request
	endpoint   endpoint
	route      *route
	path       string // the repository in the path
	mirrorOf   string // the registry that the client asks a mirror for; "" is none; see [MirrorNames]
	repository string // the repository that answers
	reference  string // a tag, a digest or the id of an upload; "" if the endpoint has none
	need       []auth.Access
	grant      auth.Grant
}

// errUnknownPath answers a path that is not in the specification.
var errUnknownPath = &oci.Error{Code: "NOT_FOUND", Message: "there is no such path in this API",
	Status: http.StatusNotFound}

// A methodError answers a method that a path does not support.
type methodError struct {
	err   *oci.Error
	allow string // the supported methods
}

func (e *methodError) Error() string { return e.err.Error() }

func (e *methodError) Unwrap() error { return e.err }

// parse parses the path of a request from the right, because the name of a repository
// may contain the fixed words of other paths.
func parse(r *http.Request) (*request, error) {
	q := &request{Request: r}
	q.endpoint = endpoint{r.Method, q.parsePath(r.URL.Path)}
	if q.endpoint.path == "" {
		return nil, errUnknownPath
	}
	if r.Method == http.MethodHead {
		q.endpoint.method = http.MethodGet
	}
	if q.route = routes[q.endpoint]; q.route == nil {
		return nil, &methodError{oci.ErrUnsupported.With("method %.16q is not supported here", r.Method),
			allow(q.endpoint.path)}
	}
	if actions := q.route.need; len(actions) > 0 { // then the path has a repository
		if err := oci.CheckRepository(q.repository); err != nil {
			return nil, err
		}
		q.need = make([]auth.Access, len(actions))
		for i, action := range actions {
			q.need[i] = auth.Access{Repository: q.repository, Action: action}
		}
	}
	q.path = q.repository
	return q, q.checkReference()
}

// allow returns the methods of a path for the Allow header.
func allow(path string) string {
	var methods []string
	for e := range routes {
		if e.path == path {
			methods = append(methods, e.method)
		}
	}
	if slices.Contains(methods, http.MethodGet) {
		methods = append(methods, http.MethodHead)
	}
	slices.Sort(methods)
	return strings.Join(methods, ", ")
}

// parsePath sets the repository and the reference, and returns the form of path in
// [routes]; "" if there is none.
func (q *request) parsePath(path string) string {
	switch path {
	case "/v2", "/v2/":
		return "/v2/"
	case "/v2/_catalog", "/acr/v1/_catalog":
		return "/v2/_catalog"
	}
	if rest, ok := strings.CutPrefix(path, "/v2/"); ok {
		return q.ociPath(rest)
	}
	if rest, ok := strings.CutPrefix(path, "/acr/v1/"); ok {
		return q.acrPath(rest)
	}
	return ""
}

// ociPath parses "<name>/<word>/<last>" and "<name>/blobs/uploads/<last>".
func (q *request) ociPath(path string) string {
	rest, last := cutLast(path)
	name, word := cutLast(rest)
	q.repository, q.reference = name, last
	switch {
	case word == "uploads":
		name, blobs := cutLast(name)
		if blobs != "blobs" || name == "" {
			break
		}
		q.repository = name
		if last == "" {
			return "/v2/<name>/blobs/uploads/"
		}
		return "/v2/<name>/blobs/uploads/<upload>"
	case word == "blobs" && last == "uploads": // without the trailing slash
		q.reference = ""
		return "/v2/<name>/blobs/uploads/"
	case word == "blobs":
		return "/v2/<name>/blobs/<digest>"
	case word == "manifests":
		return "/v2/<name>/manifests/<reference>"
	case word == "tags" && last == "list":
		q.reference = ""
		return "/v2/<name>/tags/list"
	case word == "referrers":
		return "/v2/<name>/referrers/<digest>"
	}
	return ""
}

// acrPath parses "<name>", "<name>/_tags", "<name>/_tags/<tag>", "<name>/_manifests" and
// "<name>/_manifests/<digest>".
func (q *request) acrPath(path string) string {
	rest, last := cutLast(path)
	if last == "_tags" || last == "_manifests" {
		q.repository = rest
		return "/acr/v1/<name>/" + last
	}
	name, word := cutLast(rest)
	q.repository, q.reference = name, last
	switch word {
	case "_tags":
		return "/acr/v1/<name>/_tags/<tag>"
	case "_manifests":
		return "/acr/v1/<name>/_manifests/<digest>"
	}
	q.repository, q.reference = path, ""
	return "/acr/v1/<name>"
}

// checkReference returns an error of the specification unless the reference is a valid
// tag or digest, as the endpoint requires.
func (q *request) checkReference() error {
	_, form := cutLast(q.endpoint.path)
	switch {
	case form == "<digest>", form == "<reference>" && oci.IsDigest(q.reference):
		_, err := oci.ParseDigest(q.reference)
		return err
	case form == "<tag>":
		return oci.CheckTag(q.reference)
	case form == "<reference>":
		err := oci.CheckTag(q.reference)
		if err != nil && q.endpoint.method == http.MethodGet {
			// Such a tag cannot exist. Clients expect this code.
			return oci.ErrManifestUnknown.With("manifest unknown: %s", oci.AsError(err).Message)
		}
		if err != nil {
			return oci.ErrManifestInvalid.With("%s", oci.AsError(err).Message)
		}
	}
	return nil
}

// name returns the repository as the client knows it, for messages.
func (q *request) name() string {
	if q.mirrorOf != "" {
		return q.mirrorOf + "/" + q.path
	}
	return q.path
}

// cutLast splits a path at its last slash.
func cutLast(path string) (rest, last string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}
