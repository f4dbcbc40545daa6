// Package gateway is the sync protocol between a parent and its connected
// registries: the parent's handlers and the child's client. Package wire has
// its types, and docs/protocol.md describes it.
//
// It is written for round trips of 600 ms: an idle cycle is one request and
// response, and the first byte of a changed layer flows after two.
package gateway

import (
	"context"
	"errors"
	"net/http"

	"ferry/internal/auth"
	"ferry/internal/retry"
	"ferry/internal/wire"
)

// The errors that both ends know; the client returns them, wrapped, with the
// parent's words and hint.
var (
	// ErrAlreadyActivated: another instance holds the connected registry.
	ErrAlreadyActivated error = &refusal{http.StatusConflict, "ALREADY_ACTIVATED",
		"another instance is activated as this connected registry; only one is supported at any time"}
	// ErrNotActivated: this instance holds it no longer; it may try to activate.
	ErrNotActivated error = &refusal{http.StatusConflict, "NOT_ACTIVATED", "this instance is not activated"}
	// ErrUnauthorized: the sync token or its password is wrong.
	ErrUnauthorized error = &refusal{http.StatusUnauthorized, "UNAUTHORIZED",
		"the sync token or its password is wrong, expired or disabled"}
	// ErrUnknown: there is no such connected registry.
	ErrUnknown error = &refusal{http.StatusNotFound, "UNKNOWN_CONNECTED_REGISTRY", "there is no such connected registry"}
)

// known are the errors of a child, by the parent's code.
var known = map[string]error{
	"ALREADY_ACTIVATED":          ErrAlreadyActivated,
	"NOT_ACTIVATED":              ErrNotActivated,
	"UNAUTHORIZED":               ErrUnauthorized,
	"DENIED":                     ErrUnauthorized,
	"UNKNOWN_CONNECTED_REGISTRY": ErrUnknown,
}

// A refusal stands until somebody changes something at the parent.
type refusal struct {
	status int
	code   string // of the [wire.Problem] that it is on its way to a child
	detail string
}

// Error returns the refusal in words.
func (e *refusal) Error() string { return e.detail }

// Permanent reports that another try is useless; see package retry.
func (e *refusal) Permanent() bool { return true }

// Refused reports whether err is one of these errors: the parent was reached, and
// refuses the connected registry until somebody changes something.
func Refused(err error) bool { return errors.As(err, new(*refusal)) }

// A problemError is a [wire.Problem] on its way to a child.
type problemError struct{ wire.Problem }

// Error returns what is wrong.
func (p problemError) Error() string { return p.Detail }

func problem(status int, code, detail string) problemError {
	return problemError{wire.Problem{Title: http.StatusText(status), Status: status, Code: code, Detail: detail}}
}

// problemOf turns whatever went wrong into what the child is told.
func problemOf(err error) problemError {
	status := retry.Status(err)
	if errors.Is(err, auth.ErrUnauthenticated) || status == http.StatusUnauthorized {
		err = ErrUnauthorized
	}
	var p problemError
	var r *refusal
	switch {
	case errors.As(err, &p):
	case errors.As(err, &r):
		p = problem(r.status, r.code, r.detail)
	case status == http.StatusTooManyRequests:
		p = problem(http.StatusTooManyRequests, "TOO_MANY_REQUESTS", "too many failed logins; try again later")
	default:
		p = problem(http.StatusInternalServerError, "INTERNAL", "the parent failed to answer; its log has the reason")
	}
	if err == ErrUnauthorized {
		p.Hint = "make a new connection string: ferry connected-registry get-settings --generate-password 1"
	}
	return p
}

// A ControlPlane is what the parent's handlers need to know and to tell.
type ControlPlane interface {
	// Activate binds instance to name. It returns ErrAlreadyActivated when
	// another holds it, ErrUnknown when there is no such connected registry.
	// It does nothing when the instance holds it already.
	Activate(ctx context.Context, name, instance, version string) error
	// Version counts what was decided: it is at least that of what Desired
	// returns afterwards.
	Version() int64
	// CatchUp returns once Version is at least version.
	CatchUp(ctx context.Context, version int64) error
	// Desired returns the subtree of name; ErrUnknown as above.
	Desired(ctx context.Context, name string) (*wire.Desired, error)
	// Report keeps what name says of itself and of those below it. It returns
	// ErrNotActivated when instance does not hold name. A nil report says that
	// nothing is other than in the last.
	Report(ctx context.Context, name, instance string, r *wire.Report) error
	// Changed returns a channel that is closed when the result of Desired may
	// be another than before the call.
	Changed(name string) <-chan struct{}
}
