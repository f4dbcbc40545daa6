package s3

import "net/http"

// Operation returns the kind of a request of a [Store], for metrics: one of a few words.
func Operation(r *http.Request) string {
	q := r.URL.Query()
	switch {
	case r.Header.Get("X-Amz-Copy-Source") != "":
		return "copy-part"
	case r.Method == http.MethodPut && q.Has("partNumber"):
		return "put-part"
	case r.Method == http.MethodPost && q.Has("uploads"):
		return "begin-upload"
	case r.Method == http.MethodPost:
		return "complete-upload"
	case r.Method == http.MethodDelete && q.Has("uploadId"):
		return "abort-upload"
	case r.Method == http.MethodGet && q.Has("uploads"):
		return "list-uploads"
	case r.Method == http.MethodGet && q.Has("list-type"):
		return "list"
	case r.Method == http.MethodGet && q.Has("location"):
		return "locate"
	}
	switch r.Method {
	case http.MethodGet:
		return "get"
	case http.MethodHead:
		return "head"
	case http.MethodPut:
		return "put"
	case http.MethodDelete:
		return "delete"
	}
	return "other"
}
