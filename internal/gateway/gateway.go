// Package gateway is the sync protocol between a parent and its connected
// registries: the parent's handlers and the child's client. Package wire has
// its types, and docs/protocol.md describes it.
//
// It is made for round trips of 600 ms: an idle cycle is one request and one
// answer, and the first byte of a changed layer flows after two round trips.
//
// Begin with [NewServer] for the parent, and with [Client] for the child.
package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"ferry/internal/auth"
	"ferry/internal/oci"
	"ferry/internal/retry"
	"ferry/internal/terminal"
	"ferry/internal/wire"
)

// A ControlPlane has the desired states and the reports of the connected
// registries below the parent.
type ControlPlane interface {
	// Activate binds instance to the connected registry name, if it is not bound already. from is
	// the address that the request came from. It returns ErrAlreadyActivated if another instance
	// holds it, and ErrUnknown if there is no such connected registry.
	Activate(ctx context.Context, name, instance, version, from string) error
	// Version counts changes. A later result of Desired is at least of this version.
	Version() int64
	// CatchUp returns once Version is at least version.
	CatchUp(ctx context.Context, version int64) error
	// Desired returns the desired state of name, or ErrUnknown.
	Desired(ctx context.Context, name string) (*wire.Desired, error)
	// Report stores the report of name. A nil report says that nothing changed since the last one.
	// It returns ErrNotActivated if instance does not hold name.
	Report(ctx context.Context, name, instance string, r *wire.Report) error
	// ChangePasswords passes on, or carries out, what the child name asks for with a poll from an
	// address: the changes of its own password, and of those of its descendants. They replace what it
	// asked for before. Those that it may not ask for are ignored.
	ChangePasswords(ctx context.Context, name, from string, all []wire.PasswordChange) error
	// Join exchanges a join token, given by its hash, for the password of an instance. It returns
	// ErrJoinRefused if the token is not valid, whatever the reason is.
	Join(ctx context.Context, syncToken, joinHash, from string, q wire.JoinRequest) error
	// Refused records that a login with the name of a sync token was refused: the address that it
	// came from, and the problem.
	Refused(token, from string, why wire.Problem)
	// Changed returns a channel that is closed when the result of Desired may have changed since
	// the call.
	Changed(name string) <-chan struct{}
}

// The errors that both sides know. The client returns them wrapped, with the
// parent's text and hint.
var (
	// ErrAlreadyActivated: another instance holds the connected registry.
	ErrAlreadyActivated error = problem(http.StatusConflict, "ALREADY_ACTIVATED",
		"another instance is activated as this connected registry; only one is supported at any time")
	// ErrNotActivated: this instance does not hold it, or no longer; it may try to activate.
	ErrNotActivated error = problem(http.StatusConflict, "NOT_ACTIVATED", "this instance is not activated")
	// ErrUnauthorized: the sync token or its password is wrong.
	ErrUnauthorized error = problem(http.StatusUnauthorized, codeUnauthorized,
		"the sync token or its password is wrong, expired or disabled")
	// ErrUnknown: there is no such connected registry.
	ErrUnknown error = problem(http.StatusNotFound, "UNKNOWN_CONNECTED_REGISTRY",
		"there is no such connected registry")
)

// ErrJoinRefused: the join token is not valid. The text is the same for every reason.
var ErrJoinRefused error = problemError{wire.Problem{
	Title: http.StatusText(http.StatusUnauthorized), Status: http.StatusUnauthorized, Code: codeUnauthorized,
	Detail: "the join token is unknown, expired or already used",
	Hint:   "make a new one: ferry connected-registry get-settings --join",
}}

const codeUnauthorized = "UNAUTHORIZED"

// errorsByCode are the errors of a child, by the parent's code.
var errorsByCode = map[string]error{
	"ALREADY_ACTIVATED":          ErrAlreadyActivated,
	"NOT_ACTIVATED":              ErrNotActivated,
	codeUnauthorized:             ErrUnauthorized,
	"DENIED":                     ErrUnauthorized,
	"UNKNOWN_CONNECTED_REGISTRY": ErrUnknown,
	"NOT_READY":                  ErrNotReady,
}

// ErrNotReady: the parent does not know its connected registries yet, because its
// own parent has not answered yet.
var ErrNotReady error = problem(http.StatusServiceUnavailable, "NOT_READY",
	"this parent has not heard from its own parent yet, and does not know its connected registries")

// Refused reports whether err is one of these errors, except [ErrNotReady]: the
// parent answers, and refuses the connected registry until a person changes
// something.
func Refused(err error) bool {
	return errors.As(err, new(problemError)) && !errors.Is(err, ErrNotReady)
}

// A problemError is a [wire.Problem] for a child, on either side.
type problemError struct{ wire.Problem }

// Error returns the problem's detail.
func (p problemError) Error() string { return p.Detail }

func problem(status int, code, detail string) problemError {
	return problemError{wire.Problem{Title: http.StatusText(status), Status: status, Code: code, Detail: detail}}
}

// invalid is the problem of a request that is malformed, or exceeds a limit.
func invalid(format string, args ...any) problemError {
	return problem(http.StatusBadRequest, "INVALID", fmt.Sprintf(format, args...))
}

// problemOf returns the problem that the child gets for err.
func problemOf(err error) problemError {
	status := retry.Status(err)
	if errors.Is(err, auth.ErrUnauthenticated) || status == http.StatusUnauthorized {
		err = ErrUnauthorized
	}
	var p problemError
	switch {
	case errors.As(err, &p):
	case status == http.StatusTooManyRequests:
		p = problem(http.StatusTooManyRequests, "TOO_MANY_REQUESTS", "too many failed logins; try again later")
	case errors.Is(err, oci.ErrUnavailable):
		p = problem(http.StatusServiceUnavailable, codeUnavailable, "the parent cannot answer this just now")
	default:
		p = problem(http.StatusInternalServerError, "INTERNAL", "the parent failed to answer; its log has the reason")
	}
	if err == ErrUnauthorized {
		p.Hint = "make a new connection string: ferry connected-registry get-settings --generate-password 1"
	}
	return p
}

// AnswerError is a parent's refusal, with the parent's text. For [errors.Is] it is
// one of this package's errors or, for a blob, one of package oci's.
type AnswerError struct {
	wire.Problem
	kind  error
	pause time.Duration
}

// Error returns the parent's text.
func (e *AnswerError) Error() string { return e.Detail }

// StatusCode returns the status of the parent's answer.
func (e *AnswerError) StatusCode() int { return e.Status }

// RetryAfter returns the pause that the parent asked for; 0 is none.
func (e *AnswerError) RetryAfter() time.Duration { return e.pause }

// Unwrap returns the error for which the refusal stands.
func (e *AnswerError) Unwrap() error { return e.kind }

// answerError returns the error for an answer that is no success.
func answerError(resp *http.Response) error {
	var answer struct {
		wire.Problem
		Errors []struct { // of a blob, instead of the problem
			Code    oci.Code `json:"code"`
			Message string   `json:"message"`
		} `json:"errors"`
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err == nil {
		err = json.Unmarshal(body, &answer)
	}
	e := &AnswerError{Problem: answer.Problem, kind: errorsByCode[answer.Code]}
	switch {
	case bytes.Contains(body, []byte("HTTP request to an HTTPS server")): // as net/http says it
		e.Detail = "the parent speaks TLS, and was asked without"
		e.Hint = "make a connection string with --parent-protocol https"
	case resp.StatusCode/100 == 3:
		e.Detail, e.Hint = "the parent sends this registry elsewhere: are its endpoint and its protocol right?", ""
	case err == nil && len(answer.Errors) > 0:
		first := answer.Errors[0]
		e.kind = &oci.Error{Code: first.Code, Message: clip(first.Message), Status: resp.StatusCode}
		e.Detail = e.kind.Error()
	case err != nil || e.Detail == "":
		e.Detail, e.Hint = "the parent answered "+resp.Status, ""
	}
	if e.kind == nil && resp.StatusCode == http.StatusUnauthorized {
		e.kind = ErrUnauthorized
	}
	e.Detail, e.Hint, e.Status = clip(e.Detail), clip(e.Hint), resp.StatusCode
	e.pause = oci.ParseRetryAfter(resp.Header.Get("Retry-After"), time.Now())
	return e
}

// maxErrorText is how many bytes of a parent's text get into a log.
const maxErrorText = 1000

func clip(s string) string {
	return terminal.Clip(s, maxErrorText)
}
