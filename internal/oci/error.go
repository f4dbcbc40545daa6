package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// A Code is an error code of the OCI distribution specification, section
// "Error Codes", or one of the codes that Docker's registry added to them.
type Code string

// An Error is an error of the registry API: a code, a message for people, and an
// HTTP status. [errors.Is] compares the code and the status and ignores the message,
// so that both the server and the client can compare against the values below.
type Error struct {
	Code    Code
	Message string
	Detail  any // any value that JSON can encode; nil is omitted
	Status  int // HTTP status
}

// The errors of the specification. Derive more specific ones with [Error.With];
// never change these.
var (
	ErrBlobUnknown = &Error{Code: "BLOB_UNKNOWN", Message: "blob unknown to registry",
		Status: http.StatusNotFound}
	ErrBlobUploadInvalid = &Error{Code: "BLOB_UPLOAD_INVALID", Message: "blob upload invalid",
		Status: http.StatusBadRequest}
	ErrBlobUploadUnknown = &Error{Code: "BLOB_UPLOAD_UNKNOWN", Message: "blob upload unknown to registry",
		Status: http.StatusNotFound}
	ErrDigestInvalid = &Error{Code: "DIGEST_INVALID", Message: "provided digest did not match uploaded content",
		Status: http.StatusBadRequest}
	ErrManifestBlobUnknown = &Error{Code: "MANIFEST_BLOB_UNKNOWN",
		Message: "manifest references a manifest or blob unknown to registry", Status: http.StatusNotFound}
	ErrManifestInvalid = &Error{Code: "MANIFEST_INVALID", Message: "manifest invalid",
		Status: http.StatusBadRequest}
	ErrManifestUnknown = &Error{Code: "MANIFEST_UNKNOWN", Message: "manifest unknown", Status: http.StatusNotFound}
	ErrNameInvalid     = &Error{Code: "NAME_INVALID", Message: "invalid repository name",
		Status: http.StatusBadRequest}
	ErrNameUnknown = &Error{Code: "NAME_UNKNOWN", Message: "repository name not known to registry",
		Status: http.StatusNotFound}
	ErrSizeInvalid = &Error{Code: "SIZE_INVALID", Message: "provided length did not match content length",
		Status: http.StatusBadRequest}
	ErrTagInvalid   = &Error{Code: "TAG_INVALID", Message: "invalid tag", Status: http.StatusBadRequest}
	ErrUnauthorized = &Error{Code: "UNAUTHORIZED", Message: "authentication required",
		Status: http.StatusUnauthorized}
	ErrDenied = &Error{Code: "DENIED", Message: "requested access to the resource is denied",
		Status: http.StatusForbidden}
	ErrUnsupported = &Error{Code: "UNSUPPORTED", Message: "the operation is unsupported",
		Status: http.StatusMethodNotAllowed}
	ErrTooManyRequests = &Error{Code: "TOOMANYREQUESTS", Message: "too many requests",
		Status: http.StatusTooManyRequests}

	// ErrRangeInvalid: a chunk of an upload does not start where the last one ended
	// (end-5 of the specification).
	ErrRangeInvalid = &Error{Code: "BLOB_UPLOAD_INVALID", Message: "chunk is out of order",
		Status: http.StatusRequestedRangeNotSatisfiable}
	// ErrTooLarge: a manifest is larger than [MaxManifestSize].
	ErrTooLarge = &Error{Code: "SIZE_INVALID", Message: "content is too large",
		Status: http.StatusRequestEntityTooLarge}
	// ErrInternal: the registry itself failed. Its log has the cause.
	ErrInternal = &Error{Code: "UNKNOWN", Message: "the registry failed to answer",
		Status: http.StatusInternalServerError}
	// ErrUnavailable: something that the registry needs, such as its database, does not answer. A later
	// try may succeed.
	ErrUnavailable = &Error{Code: "UNAVAILABLE", Message: "the registry cannot answer this just now; try again",
		Status: http.StatusServiceUnavailable}
	// ErrNoSpace: the disk has no room for a write.
	ErrNoSpace = &Error{Code: "UNKNOWN", Message: "no space left on the registry's disk",
		Status: http.StatusInsufficientStorage}
)

// Error returns the code and the message on one line.
func (e *Error) Error() string { return fmt.Sprintf("%s: %s", e.Code, e.Message) }

// StatusCode returns the HTTP status; see package retry.
func (e *Error) StatusCode() int { return e.Status }

// Is reports whether target is an [Error] with the same code and status.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.Status == e.Status
}

// With returns a copy of e with another message, formatted by [fmt.Sprintf].
func (e *Error) With(format string, args ...any) *Error {
	c := *e
	c.Message = fmt.Sprintf(format, args...)
	return &c
}

// WithDetail returns a copy of e that carries detail.
func (e *Error) WithDetail(detail any) *Error {
	c := *e
	c.Detail = detail
	return &c
}

// WithStatus returns a copy of e with another HTTP status.
func (e *Error) WithStatus(status int) *Error {
	c := *e
	c.Status = status
	return &c
}

// AsError returns the first [Error] in err's chain, or nil.
func AsError(err error) *Error {
	e, _ := errors.AsType[*Error](err)
	return e
}

// retryAfter is how long a client should wait after [ErrUnavailable], in seconds.
const retryAfter = "5"

// WriteError writes e as a response, in the form of the distribution specification,
// section "Error Codes".
func WriteError(w http.ResponseWriter, e *Error) {
	type entry struct {
		Code    Code   `json:"code"`
		Message string `json:"message"`
		Detail  any    `json:"detail,omitempty"`
	}
	body, err := json.Marshal(map[string][]entry{"errors": {{e.Code, e.Message, e.Detail}}})
	if err != nil { // JSON cannot encode the detail
		body, _ = json.Marshal(map[string][]entry{"errors": {{e.Code, e.Message, nil}}})
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if e.Is(ErrUnavailable) {
		w.Header().Set("Retry-After", retryAfter)
	}
	w.WriteHeader(e.Status)
	w.Write(body)
}
