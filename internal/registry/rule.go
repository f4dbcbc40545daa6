package registry

import (
	"net/http"

	"ferry/internal/auth"
)

// An endPoint is a method and a path of the API. A path's last element is
// what its reference has to be.
type endPoint struct{ method, path string }

// A rule is what a request needs, and who answers it.
type rule struct {
	access
	handle func(*Registry, http.ResponseWriter, *request) error
}

// An access is the actions that a request needs on its repository.
type access struct {
	need  []auth.Action
	write bool // refused by a registry that may not be written to
}

var (
	anyone = access{}
	pull   = access{need: []auth.Action{auth.ContentRead}}
	push   = access{need: []auth.Action{auth.ContentRead, auth.ContentWrite}, write: true}
	remove = access{need: []auth.Action{auth.ContentDelete}, write: true}
	read   = access{need: []auth.Action{auth.MetadataRead}}
	change = access{need: []auth.Action{auth.MetadataWrite}, write: true}
)

// rules holds for each end-point what it needs; HEAD is as GET. It is only
// read. The comments name the end-points of the distribution specification,
// section "API".
var rules = map[endPoint]*rule{
	{"GET", "/v2/"}:                                 {anyone, (*Registry).ping},           // end-1
	{"GET", "/v2/<name>/blobs/<digest>"}:            {pull, (*Registry).getBlob},          // end-2
	{"GET", "/v2/<name>/manifests/<reference>"}:     {pull, (*Registry).getManifest},      // end-3
	{"POST", "/v2/<name>/blobs/uploads/"}:           {push, (*Registry).startUpload},      // end-4a, end-4b, end-11
	{"PATCH", "/v2/<name>/blobs/uploads/<upload>"}:  {push, (*Registry).patchUpload},      // end-5
	{"PUT", "/v2/<name>/blobs/uploads/<upload>"}:    {push, (*Registry).putUpload},        // end-6
	{"PUT", "/v2/<name>/manifests/<reference>"}:     {push, (*Registry).putManifest},      // end-7a, end-7b
	{"GET", "/v2/<name>/tags/list"}:                 {read, (*Registry).listTags},         // end-8a, end-8b
	{"DELETE", "/v2/<name>/manifests/<reference>"}:  {remove, (*Registry).deleteManifest}, // end-9
	{"DELETE", "/v2/<name>/blobs/<digest>"}:         {remove, (*Registry).deleteBlob},     // end-10
	{"GET", "/v2/<name>/referrers/<digest>"}:        {pull, (*Registry).listReferrers},    // end-12a, end-12b
	{"GET", "/v2/<name>/blobs/uploads/<upload>"}:    {push, (*Registry).getUpload},        // end-13
	{"DELETE", "/v2/<name>/blobs/uploads/<upload>"}: {push, (*Registry).deleteUpload},     // end-14
	// Of Docker's registry, and /acr/v1/_catalog.
	{"GET", "/v2/_catalog"}:                          {anyone, (*Registry).catalog},
	{"GET", "/acr/v1/<name>"}:                        {read, (*Registry).repositoryAttributes},
	{"PATCH", "/acr/v1/<name>"}:                      {change, (*Registry).lockRepository},
	{"DELETE", "/acr/v1/<name>"}:                     {remove, (*Registry).deleteRepository},
	{"GET", "/acr/v1/<name>/_tags"}:                  {read, (*Registry).tagAttributesList},
	{"GET", "/acr/v1/<name>/_tags/<tag>"}:            {read, (*Registry).tagAttributes},
	{"PATCH", "/acr/v1/<name>/_tags/<tag>"}:          {change, (*Registry).lockTag},
	{"DELETE", "/acr/v1/<name>/_tags/<tag>"}:         {change, (*Registry).untag},
	{"GET", "/acr/v1/<name>/_manifests"}:             {read, (*Registry).manifestAttributesList},
	{"GET", "/acr/v1/<name>/_manifests/<digest>"}:    {read, (*Registry).manifestAttributes},
	{"PATCH", "/acr/v1/<name>/_manifests/<digest>"}:  {change, (*Registry).lockManifest},
	{"DELETE", "/acr/v1/<name>/_manifests/<digest>"}: {remove, (*Registry).deleteManifest},
}
