package registry

import (
	"net/http"
	"strings"

	"ferry/internal/auth"
	"ferry/internal/oci"
)

// A kind is what a request asks for. The comments name the end-point of the
// distribution specification, section "API".
type kind int

const (
	kindPing             kind = iota // end-1
	kindBlobGet                      // end-2
	kindManifestGet                  // end-3
	kindUploadStart                  // end-4a, end-4b and end-11
	kindUploadPatch                  // end-5
	kindUploadPut                    // end-6
	kindManifestPut                  // end-7
	kindTags                         // end-8a, end-8b
	kindManifestDelete               // end-9
	kindBlobDelete                   // end-10
	kindReferrers                    // end-12a, end-12b
	kindUploadGet                    // end-13
	kindUploadDelete                 // end-14, of Docker's registry
	kindCatalog                      // of Docker's registry
	kindRepositoryList               // /acr/v1/_catalog
	kindRepositoryGet                // /acr/v1/<name>
	kindRepositoryPatch              // /acr/v1/<name>
	kindRepositoryDelete             // /acr/v1/<name>
	kindTagList                      // /acr/v1/<name>/_tags
	kindTagGet                       // /acr/v1/<name>/_tags/<tag>
	kindTagPatch                     // /acr/v1/<name>/_tags/<tag>
	kindTagDelete                    // /acr/v1/<name>/_tags/<tag>
	kindManifestList                 // /acr/v1/<name>/_manifests
	kindAttributesGet                // /acr/v1/<name>/_manifests/<digest>
	kindAttributesPatch              // /acr/v1/<name>/_manifests/<digest>
	kindAttributesDelete             // /acr/v1/<name>/_manifests/<digest>
)

// A rule is what a kind of request needs, and who answers it.
type rule struct {
	need   []auth.Action
	write  bool // refused by a registry that may not be written to
	handle func(*Registry, http.ResponseWriter, *request) error
}

var (
	pull   = []auth.Action{auth.ContentRead}
	push   = []auth.Action{auth.ContentRead, auth.ContentWrite}
	remove = []auth.Action{auth.ContentDelete}
	read   = []auth.Action{auth.MetadataRead}
	change = []auth.Action{auth.MetadataWrite}
)

// rules holds for each kind what it needs. It is only read.
var rules = [...]rule{
	kindPing:             {nil, false, (*Registry).ping},
	kindBlobGet:          {pull, false, (*Registry).getBlob},
	kindManifestGet:      {pull, false, (*Registry).getManifest},
	kindUploadStart:      {push, true, (*Registry).startUpload},
	kindUploadPatch:      {push, true, (*Registry).patchUpload},
	kindUploadPut:        {push, true, (*Registry).putUpload},
	kindManifestPut:      {push, true, (*Registry).putManifest},
	kindTags:             {read, false, (*Registry).listTags},
	kindManifestDelete:   {remove, true, (*Registry).deleteManifest},
	kindBlobDelete:       {remove, true, (*Registry).deleteBlob},
	kindReferrers:        {pull, false, (*Registry).listReferrers},
	kindUploadGet:        {push, true, (*Registry).getUpload},
	kindUploadDelete:     {push, true, (*Registry).deleteUpload},
	kindCatalog:          {nil, false, (*Registry).catalog},
	kindRepositoryList:   {nil, false, (*Registry).catalog},
	kindRepositoryGet:    {read, false, (*Registry).repositoryAttributes},
	kindRepositoryPatch:  {change, true, (*Registry).lockRepository},
	kindRepositoryDelete: {remove, true, (*Registry).deleteRepository},
	kindTagList:          {read, false, (*Registry).tagAttributesList},
	kindTagGet:           {read, false, (*Registry).tagAttributes},
	kindTagPatch:         {change, true, (*Registry).lockTag},
	kindTagDelete:        {change, true, (*Registry).untag},
	kindManifestList:     {read, false, (*Registry).manifestAttributesList},
	kindAttributesGet:    {read, false, (*Registry).manifestAttributes},
	kindAttributesPatch:  {change, true, (*Registry).lockManifest},
	kindAttributesDelete: {remove, true, (*Registry).deleteManifest},
}

// A request is a parsed path with the HTTP request that it came from.
type request struct {
	*http.Request
	kind       kind
	repository string
	reference  string // a tag or a digest
	upload     string // an upload's id
	grant      auth.Grant
}

// methods says which kind each method of a resource is.
type methods map[string]kind

// The resources below /v2/<name>/ and /acr/v1/<name>/, by the word that
// stands before their last path element, or last.
var (
	blobMethods       = methods{"GET": kindBlobGet, "HEAD": kindBlobGet, "DELETE": kindBlobDelete}
	manifestMethods   = methods{"GET": kindManifestGet, "HEAD": kindManifestGet, "PUT": kindManifestPut, "DELETE": kindManifestDelete}
	uploadMethods     = methods{"GET": kindUploadGet, "PATCH": kindUploadPatch, "PUT": kindUploadPut, "DELETE": kindUploadDelete}
	startMethods      = methods{"POST": kindUploadStart}
	tagsMethods       = methods{"GET": kindTags, "HEAD": kindTags}
	referrersMethods  = methods{"GET": kindReferrers, "HEAD": kindReferrers}
	pingMethods       = methods{"GET": kindPing, "HEAD": kindPing}
	catalogMethods    = methods{"GET": kindCatalog, "HEAD": kindCatalog}
	acrCatalogMethods = methods{"GET": kindRepositoryList}
	acrNameMethods    = methods{"GET": kindRepositoryGet, "PATCH": kindRepositoryPatch, "DELETE": kindRepositoryDelete}
	acrTagsMethods    = methods{"GET": kindTagList}
	acrTagMethods     = methods{"GET": kindTagGet, "PATCH": kindTagPatch, "DELETE": kindTagDelete}
	acrManifests      = methods{"GET": kindManifestList}
	acrManifest       = methods{"GET": kindAttributesGet, "PATCH": kindAttributesPatch, "DELETE": kindAttributesDelete}
)

// errNoPath answers a path that the specification does not have.
var errNoPath = &oci.Error{Code: "NOT_FOUND", Message: "there is no such path in this API", Status: http.StatusNotFound}

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
		return nil, oci.ErrUnsupported.With("method %.16s is not supported here", r.Method)
	}
	q.kind = k
	if q.repository != "" {
		if err := oci.CheckRepository(q.repository); err != nil {
			return nil, err
		}
	}
	return q, q.checkReference()
}

func (q *request) resource(path string) (methods, error) {
	switch path {
	case "/v2", "/v2/":
		return pingMethods, nil
	case "/v2/_catalog":
		return catalogMethods, nil
	case "/acr/v1/_catalog":
		return acrCatalogMethods, nil
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
