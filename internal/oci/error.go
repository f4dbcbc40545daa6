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

// An Error is an error that a client of the registry API sees: a code, a
// message for people, and an HTTP status. Two Errors are the same to
// [errors.Is] when their codes are equal, whatever their message, so that a
// caller can compare against the values below on either side of HTTP.
type Error struct {
	Code    Code
	Message string
	Detail  any // anything JSON can carry; nil is left out
	Status  int // the HTTP status that goes with the code
}

// The errors of the specification. Derive one that says more with
// [Error.With] or [Error.Wrap]; never change these.
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

	// ErrRangeInvalid answers an upload chunk that does not start where the
	// last one ended (end-5 of the specification).
	ErrRangeInvalid = &Error{Code: "BLOB_UPLOAD_INVALID", Message: "chunk is out of order",
		Status: http.StatusRequestedRangeNotSatisfiable}
	// ErrTooLarge answers a manifest of more than [MaxManifestSize].
	ErrTooLarge = &Error{Code: "SIZE_INVALID", Message: "content is too large",
		Status: http.StatusRequestEntityTooLarge}
	// ErrInternal answers when the registry itself failed; its log says how.
	ErrInternal = &Error{Code: "UNKNOWN", Message: "the registry failed to answer",
		Status: http.StatusInternalServerError}
	// ErrNoSpace answers a write that the disk has no room for.
	ErrNoSpace = &Error{Code: "UNKNOWN", Message: "no space left on the registry's disk",
		Status: http.StatusInsufficientStorage}
)

// Error returns the code and the message on one line.
func (e *Error) Error() string { return fmt.Sprintf("%s: %s", e.Code, e.Message) }

// StatusCode returns the HTTP status that goes with the code.
func (e *Error) StatusCode() int { return e.Status }

// Is reports whether target is an [Error] of the same code and status.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.Status == e.Status
}

// With returns a copy of e with another message, formatted as by [fmt.Sprintf].
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

// WithStatus returns a copy of e that goes with another HTTP status.
func (e *Error) WithStatus(status int) *Error {
	c := *e
	c.Status = status
	return &c
}

// AsError returns the [Error] in err's chain, or nil.
func AsError(err error) *Error {
	e, _ := errors.AsType[*Error](err)
	return e
}

// WriteError answers a request with e, in the form of the distribution
// specification, section "Error Codes".
func WriteError(w http.ResponseWriter, e *Error) {
	type entry struct {
		Code    Code   `json:"code"`
		Message string `json:"message"`
		Detail  any    `json:"detail,omitempty"`
	}
	body, err := json.Marshal(map[string][]entry{"errors": {{e.Code, e.Message, e.Detail}}})
	if err != nil { // a detail that JSON can't carry
		body, _ = json.Marshal(map[string][]entry{"errors": {{e.Code, e.Message, nil}}})
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(e.Status)
	w.Write(body)
}
