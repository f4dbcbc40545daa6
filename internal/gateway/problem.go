package gateway

import (
	"errors"
	"net/http"

	"ferry/internal/auth"
	"ferry/internal/oci"
	"ferry/internal/wire"
)

// problemError is a [wire.Problem] on its way to a child.
type problemError struct{ wire.Problem }

// Error implements error.
func (p problemError) Error() string { return p.Detail }

func problem(status int, code, detail string) problemError {
	return problemError{wire.Problem{Title: http.StatusText(status), Status: status, Code: code, Detail: detail}}
}

// problemOf turns whatever went wrong into what the child is told.
func problemOf(err error) problemError {
	var p problemError
	var b busyError
	switch {
	case errors.As(err, &b):
		return b.problemError
	case errors.As(err, &p):
		return p
	}
	switch {
	case errors.Is(err, ErrAlreadyActivated):
		p = problem(http.StatusConflict, "ALREADY_ACTIVATED", "another instance is activated as this connected registry; only one is supported at any time")
	case errors.Is(err, ErrNotActivated):
		p = problem(http.StatusConflict, "NOT_ACTIVATED", "this instance is not activated")
	case errors.Is(err, ErrUnknown):
		p = problem(http.StatusNotFound, "UNKNOWN_CONNECTED_REGISTRY", "there is no such connected registry")
	case errors.Is(err, auth.ErrUnauthenticated), oci.AsError(err) != nil && oci.AsError(err).Status == http.StatusUnauthorized:
		p = problem(http.StatusUnauthorized, "UNAUTHORIZED", "the sync token or its password is wrong, expired or disabled")
		p.Hint = "make a new connection string: ferry connected-registry get-settings --generate-password 1"
	case oci.AsError(err) != nil && oci.AsError(err).Status == http.StatusTooManyRequests:
		p = problem(http.StatusTooManyRequests, "TOO_MANY_REQUESTS", "too many failed logins; try again later")
	default:
		p = problem(http.StatusInternalServerError, "INTERNAL", "the parent failed to answer; its log has the reason")
	}
	return p
}

// known are the errors of a child, by the parent's code.
var known = map[string]error{
	"ALREADY_ACTIVATED":          ErrAlreadyActivated,
	"NOT_ACTIVATED":              ErrNotActivated,
	"UNAUTHORIZED":               ErrUnauthorized,
	"DENIED":                     ErrUnauthorized,
	"UNKNOWN_CONNECTED_REGISTRY": ErrUnknown,
}
