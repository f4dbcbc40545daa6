package registry

import (
	"net/http"
	"slices"
	"strings"

	"ferry/internal/auth"
	"ferry/internal/oci"
)

// A request is a parsed path with the HTTP request that it came from.
type request struct {
	*http.Request
	at         endPoint
	rule       *rule
	repository string
	reference  string // a tag, a digest or an upload's id, "" where the end-point has none
	need       []auth.Access
	grant      auth.Grant
}

// errNoPath answers a path that the specification does not have.
var errNoPath = &oci.Error{Code: "NOT_FOUND", Message: "there is no such path in this API", Status: http.StatusNotFound}

// A methodError answers a method that a resource does not have.
type methodError struct {
	err   *oci.Error
	allow string // the methods that it has
}

func (e *methodError) Error() string { return e.err.Error() }

func (e *methodError) Unwrap() error { return e.err }

// parse reads a request's path from the right: a repository's name may hold
// anything that stands to the left of the known words.
func parse(r *http.Request) (*request, error) {
	q := &request{Request: r}
	q.at = endPoint{r.Method, q.read(r.URL.Path)}
	if q.at.path == "" {
		return nil, errNoPath
	}
	if r.Method == http.MethodHead {
		q.at.method = http.MethodGet
	}
	if q.rule = rules[q.at]; q.rule == nil {
		return nil, &methodError{oci.ErrUnsupported.With("method %.16q is not supported here", r.Method),
			allow(q.at.path)}
	}
	if actions := q.rule.need; len(actions) > 0 { // what needs access to a repository must have one
		if err := oci.CheckRepository(q.repository); err != nil {
			return nil, err
		}
		q.need = make([]auth.Access, len(actions))
		for i, action := range actions {
			q.need[i] = auth.Access{Repository: q.repository, Action: action}
		}
	}
	return q, q.checkReference()
}

// allow lists a path's methods for the Allow header.
func allow(path string) string {
	var methods []string
	for at := range rules {
		if at.path == path {
			methods = append(methods, at.method)
		}
	}
	if slices.Contains(methods, http.MethodGet) {
		methods = append(methods, http.MethodHead)
	}
	slices.Sort(methods)
	return strings.Join(methods, ", ")
}

// read takes a path apart and returns its form in [rules], "" for none.
func (q *request) read(path string) string {
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

// ociPath reads "<name>/<word>/<last>", and "<name>/blobs/uploads/<last>".
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
	case word == "blobs" && last == "uploads": // without the slash at its end
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

// acrPath reads "<name>", "<name>/_tags", "<name>/_tags/<tag>" and the
// same of _manifests.
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

// checkReference refuses what is neither a tag nor a digest where one is
// needed, in the specification's words.
func (q *request) checkReference() error {
	_, form := cutLast(q.at.path)
	switch {
	case form == "<digest>", form == "<reference>" && oci.IsDigest(q.reference):
		_, err := oci.ParseDigest(q.reference)
		return err
	case form == "<tag>":
		return oci.CheckTag(q.reference)
	case form == "<reference>":
		err := oci.CheckTag(q.reference)
		if err != nil && q.at.method == http.MethodGet {
			// No such tag can exist; clients look for this code.
			return oci.ErrManifestUnknown.With("manifest unknown: %s", oci.AsError(err).Message)
		}
		if err != nil {
			return oci.ErrManifestInvalid.With("%s", oci.AsError(err).Message)
		}
	}
	return nil
}

// cutLast splits a path before its last element.
func cutLast(path string) (rest, last string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}
