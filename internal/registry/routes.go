package registry

import (
	"net/http"

	"ferry/internal/auth"
)

// An endpoint is a method and a path of the API. The last element of the path says
// whether the reference is a tag, a digest, either of them, or an upload.
type endpoint struct{ method, path string }

// A route says which access a request needs, and which method handles it.
type route struct {
	access
	handle func(*Registry, http.ResponseWriter, *request) error
}

// An access has the actions that a request needs on its repository.
type access struct {
	need     []auth.Action
	write    bool // a read-only registry refuses it
	lock     bool // every connected registry refuses it
	mirrored bool // it may be for a repository of another registry; see [MirrorNames]
}

var (
	anyone = access{}
	pull   = access{need: []auth.Action{auth.ContentRead}, mirrored: true}
	push   = access{need: []auth.Action{auth.ContentRead, auth.ContentWrite}, write: true}
	remove = access{need: []auth.Action{auth.ContentDelete}, write: true}
	list   = access{need: []auth.Action{auth.MetadataRead}, mirrored: true}
	read   = access{need: []auth.Action{auth.MetadataRead}}
	change = access{need: []auth.Action{auth.MetadataWrite}, write: true}
	lock   = access{need: []auth.Action{auth.MetadataWrite}, write: true, lock: true}
)

// routes has the route of each endpoint; HEAD has the route of GET. The comments name
// the endpoints in the distribution specification, section "API". It is never modified.
var routes = map[endpoint]*route{
	{"GET", "/v2/"}:                                 {anyone, (*Registry).ping},           // end-1
	{"GET", "/v2/<name>/blobs/<digest>"}:            {pull, (*Registry).getBlob},          // end-2
	{"GET", "/v2/<name>/manifests/<reference>"}:     {pull, (*Registry).getManifest},      // end-3
	{"POST", "/v2/<name>/blobs/uploads/"}:           {push, (*Registry).startUpload},      // end-4a, end-4b, end-11
	{"PATCH", "/v2/<name>/blobs/uploads/<upload>"}:  {push, (*Registry).patchUpload},      // end-5
	{"PUT", "/v2/<name>/blobs/uploads/<upload>"}:    {push, (*Registry).putUpload},        // end-6
	{"PUT", "/v2/<name>/manifests/<reference>"}:     {push, (*Registry).putManifest},      // end-7a, end-7b
	{"GET", "/v2/<name>/tags/list"}:                 {list, (*Registry).listTags},         // end-8a, end-8b
	{"DELETE", "/v2/<name>/manifests/<reference>"}:  {remove, (*Registry).deleteManifest}, // end-9
	{"DELETE", "/v2/<name>/blobs/<digest>"}:         {remove, (*Registry).deleteBlob},     // end-10
	{"GET", "/v2/<name>/referrers/<digest>"}:        {pull, (*Registry).listReferrers},    // end-12a, end-12b
	{"GET", "/v2/<name>/blobs/uploads/<upload>"}:    {push, (*Registry).getUpload},        // end-13
	{"DELETE", "/v2/<name>/blobs/uploads/<upload>"}: {push, (*Registry).deleteUpload},     // end-14
	// Not in the specification: Docker's catalog, also at /acr/v1/_catalog, and the
	// attributes of the reference.
	{"GET", "/v2/_catalog"}:                          {anyone, (*Registry).catalog},
	{"GET", "/acr/v1/<name>"}:                        {read, (*Registry).repositoryAttributes},
	{"PATCH", "/acr/v1/<name>"}:                      {lock, (*Registry).lockRepository},
	{"DELETE", "/acr/v1/<name>"}:                     {remove, (*Registry).deleteRepository},
	{"GET", "/acr/v1/<name>/_tags"}:                  {read, (*Registry).tagAttributesList},
	{"GET", "/acr/v1/<name>/_tags/<tag>"}:            {read, (*Registry).tagAttributes},
	{"PATCH", "/acr/v1/<name>/_tags/<tag>"}:          {lock, (*Registry).lockTag},
	{"DELETE", "/acr/v1/<name>/_tags/<tag>"}:         {change, (*Registry).untag},
	{"GET", "/acr/v1/<name>/_manifests"}:             {read, (*Registry).manifestAttributesList},
	{"GET", "/acr/v1/<name>/_manifests/<digest>"}:    {read, (*Registry).manifestAttributes},
	{"PATCH", "/acr/v1/<name>/_manifests/<digest>"}:  {lock, (*Registry).lockManifest},
	{"DELETE", "/acr/v1/<name>/_manifests/<digest>"}: {remove, (*Registry).deleteManifest},
}
