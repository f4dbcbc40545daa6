package registry

import (
	"net/http"

	"ferry/internal/auth"
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
	kindManifestPut                  // end-7a, end-7b
	kindTags                         // end-8a, end-8b
	kindManifestDelete               // end-9
	kindBlobDelete                   // end-10
	kindReferrers                    // end-12a, end-12b
	kindUploadGet                    // end-13
	kindUploadDelete                 // end-14
	kindCatalog                      // of Docker's registry, and /acr/v1/_catalog
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
