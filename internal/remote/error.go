package remote

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"ferry/internal/oci"
	"ferry/internal/terminal"
)

// A pausedError is a refusal that says when to come back.
type pausedError struct {
	error // an oci.Error
	pause time.Duration
}

// Unwrap returns the refusal.
func (e *pausedError) Unwrap() error { return e.error }

// RetryAfter returns how long the registry wants not to be asked, at most an
// hour.
func (e *pausedError) RetryAfter() time.Duration { return e.pause }

// A LoginError says that the login that docker login cached for a registry
// cannot be read, such as if a credential helper is not installed.
type LoginError struct {
	Host string
	error
}

// Error names the registry.
func (e *LoginError) Error() string { return fmt.Sprintf("read the login for %s: %s", e.Host, e.error) }

// Unwrap returns the cause.
func (e *LoginError) Unwrap() error { return e.error }

// byStatus are the errors of answers without a body, such as a HEAD's.
var byStatus = map[int]*oci.Error{
	http.StatusUnauthorized:    oci.ErrUnauthorized,
	http.StatusForbidden:       oci.ErrDenied,
	http.StatusTooManyRequests: oci.ErrTooManyRequests,
}

// refusal makes an error of an answer of 300 or above.
func refusal(resp *http.Response, now time.Time) error {
	e := &oci.Error{Code: "UNKNOWN", Message: "the registry answered " + resp.Status, Status: resp.StatusCode}
	if known := byStatus[resp.StatusCode]; known != nil {
		e = known
	}
	var body struct {
		Errors []struct {
			Code    oci.Code `json:"code"`
			Message string   `json:"message"`
		} `json:"errors"`
	}
	err := json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&body)
	if err == nil && len(body.Errors) > 0 {
		e = &oci.Error{Code: body.Errors[0].Code, Message: printable(body.Errors[0].Message), Status: resp.StatusCode}
	}
	if pause := oci.ParseRetryAfter(resp.Header.Get("Retry-After"), now); pause > 0 {
		return &pausedError{e, pause}
	}
	return e
}

// loginRefusal makes an [oci.Error] of a login that a registry, or its token
// endpoint, refused. Other errors stay as they are.
func loginRefusal(err error) error {
	if errors.Is(err, auth.ErrBasicCredentialNotFound) {
		return oci.ErrUnauthorized.With("the registry wants a user name and a password")
	}
	var answer *errcode.ErrorResponse
	if !errors.As(err, &answer) || answer.StatusCode >= http.StatusInternalServerError {
		return err
	}
	e := byStatus[answer.StatusCode]
	if e == nil {
		e = oci.ErrUnauthorized.With("the login was refused with status %d",
			answer.StatusCode).WithStatus(answer.StatusCode)
	}
	if len(answer.Errors) > 0 {
		return e.With("%s", printable(answer.Errors[0].Message))
	}
	return e
}

// unknown returns what for a 404 without a body, and else err.
func unknown(err error, what *oci.Error) error {
	if e := oci.AsError(err); e != nil && e.Status == http.StatusNotFound && e.Code == "UNKNOWN" {
		return what
	}
	return err
}

// printable makes a registry's message short, and safe for a terminal.
func printable(s string) string {
	const limit = 300
	return terminal.Printable(terminal.Clip(s, limit))
}
