package registry

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"ferry/internal/auth"
	"ferry/internal/oci"
)

// A request is a parsed path with the HTTP request that it came from.
type request struct {
	*http.Request
	kind       kind
	repository string
	reference  string // a tag or a digest
	upload     string // an upload's id
	need       []auth.Access
	grant      auth.Grant
}

// methods says which kind each method of a resource is.
type methods map[string]kind

// allow lists them for the Allow header.
func (m methods) allow() string { return strings.Join(slices.Sorted(maps.Keys(m)), ", ") }

// The resources below /v2/<name>/ and /acr/v1/<name>/, by the word that
// stands before their last path element, or last.
var (
	blobMethods      = methods{"GET": kindBlobGet, "HEAD": kindBlobGet, "DELETE": kindBlobDelete}
	manifestMethods  = methods{"GET": kindManifestGet, "HEAD": kindManifestGet, "PUT": kindManifestPut, "DELETE": kindManifestDelete}
	uploadMethods    = methods{"GET": kindUploadGet, "HEAD": kindUploadGet, "PATCH": kindUploadPatch, "PUT": kindUploadPut, "DELETE": kindUploadDelete}
	startMethods     = methods{"POST": kindUploadStart}
	tagsMethods      = methods{"GET": kindTags, "HEAD": kindTags}
	referrersMethods = methods{"GET": kindReferrers, "HEAD": kindReferrers}
	pingMethods      = methods{"GET": kindPing, "HEAD": kindPing}
	catalogMethods   = methods{"GET": kindCatalog, "HEAD": kindCatalog}
	acrNameMethods   = methods{"GET": kindRepositoryGet, "HEAD": kindRepositoryGet, "PATCH": kindRepositoryPatch, "DELETE": kindRepositoryDelete}
	acrTagsMethods   = methods{"GET": kindTagList, "HEAD": kindTagList}
	acrTagMethods    = methods{"GET": kindTagGet, "HEAD": kindTagGet, "PATCH": kindTagPatch, "DELETE": kindTagDelete}
	acrManifests     = methods{"GET": kindManifestList, "HEAD": kindManifestList}
	acrManifest      = methods{"GET": kindAttributesGet, "HEAD": kindAttributesGet, "PATCH": kindAttributesPatch, "DELETE": kindAttributesDelete}
)

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
	m, err := q.resource(r.URL.Path)
	if err != nil {
		return nil, err
	}
	k, ok := m[r.Method]
	if !ok {
		return nil, &methodError{oci.ErrUnsupported.With("method %.16q is not supported here", r.Method), m.allow()}
	}
	q.kind = k
	if actions := rules[k].need; len(actions) > 0 { // what needs access to a repository must have one
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

func (q *request) resource(path string) (methods, error) {
	switch path {
	case "/v2", "/v2/":
		return pingMethods, nil
	case "/v2/_catalog", "/acr/v1/_catalog":
		return catalogMethods, nil
	}
	if rest, ok := strings.CutPrefix(path, "/v2/"); ok {
		return q.ociResource(rest)
	}
	if rest, ok := strings.CutPrefix(path, "/acr/v1/"); ok {
		return q.acrResource(rest)
	}
	return nil, errNoPath
}

// ociResource reads "<name>/<word>/<last>", and "<name>/blobs/uploads/<last>".
func (q *request) ociResource(path string) (methods, error) {
	rest, last := cutLast(path)
	name, word := cutLast(rest)
	switch word {
	case "uploads":
		name, blobs := cutLast(name)
		if blobs != "blobs" || name == "" {
			break
		}
		q.repository, q.upload = name, last
		if last == "" {
			return startMethods, nil
		}
		return uploadMethods, nil
	case "blobs":
		if last == "uploads" { // without the slash at its end
			q.repository = name
			return startMethods, nil
		}
		q.repository, q.reference = name, last
		return blobMethods, nil
	case "manifests":
		q.repository, q.reference = name, last
		return manifestMethods, nil
	case "tags":
		if last == "list" {
			q.repository = name
			return tagsMethods, nil
		}
	case "referrers":
		q.repository, q.reference = name, last
		return referrersMethods, nil
	}
	return nil, errNoPath
}

// acrResource reads "<name>", "<name>/_tags", "<name>/_tags/<tag>" and the
// same of _manifests.
func (q *request) acrResource(path string) (methods, error) {
	rest, last := cutLast(path)
	switch last {
	case "_tags":
		q.repository = rest
		return acrTagsMethods, nil
	case "_manifests":
		q.repository = rest
		return acrManifests, nil
	}
	name, word := cutLast(rest)
	switch word {
	case "_tags":
		q.repository, q.reference = name, last
		return acrTagMethods, nil
	case "_manifests":
		q.repository, q.reference = name, last
		return acrManifest, nil
	}
	q.repository = path
	return acrNameMethods, nil
}

// checkReference refuses what is neither a tag nor a digest where one is
// needed, in the specification's words.
func (q *request) checkReference() error {
	switch q.kind {
	case kindBlobGet, kindBlobDelete, kindReferrers, kindAttributesGet, kindAttributesPatch, kindAttributesDelete:
		_, err := oci.ParseDigest(q.reference)
		return err
	case kindTagGet, kindTagPatch, kindTagDelete:
		return oci.CheckTag(q.reference)
	case kindManifestGet, kindManifestPut, kindManifestDelete:
		if oci.IsDigest(q.reference) {
			_, err := oci.ParseDigest(q.reference)
			return err
		}
		if err := oci.CheckTag(q.reference); err != nil {
			if q.kind == kindManifestGet {
				// No such tag can exist; clients look for this code.
				return oci.ErrManifestUnknown.With("manifest unknown: %s", oci.AsError(err).Message)
			}
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
