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
	"ferry/internal/outbound"
	"ferry/internal/terminal"
)

// A retryAfterError is an error response with a Retry-After header.
type retryAfterError struct {
	error // an oci.Error
	pause time.Duration
}

// Unwrap returns the error without the pause.
func (e *retryAfterError) Unwrap() error { return e.error }

// RetryAfter returns the pause that the registry asks for, at most an hour.
func (e *retryAfterError) RetryAfter() time.Duration { return e.pause }

// A LoginError says that the login that "docker login" stored for a registry cannot be
// read, for example because a credential helper is not installed.
type LoginError struct {
	Host string
	error
}

// Error names the registry.
func (e *LoginError) Error() string { return fmt.Sprintf("read the login for %s: %s", e.Host, e.error) }

// Unwrap returns the cause.
func (e *LoginError) Unwrap() error { return e.error }

// errorsByStatus are the errors for responses without a body, such as those to HEAD.
var errorsByStatus = map[int]*oci.Error{
	http.StatusUnauthorized:    oci.ErrUnauthorized,
	http.StatusForbidden:       oci.ErrDenied,
	http.StatusTooManyRequests: oci.ErrTooManyRequests,
}

// responseError returns the error that a response of status 300 or above stands for.
func responseError(resp *http.Response, now time.Time) error {
	e := &oci.Error{Code: "UNKNOWN", Message: "the registry answered " + resp.Status, Status: resp.StatusCode}
	if known := errorsByStatus[resp.StatusCode]; known != nil {
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
	if err := outbound.LinkError(resp); err != nil {
		return err
	}
	if pause := oci.ParseRetryAfter(resp.Header.Get("Retry-After"), now); pause > 0 {
		return &retryAfterError{e, pause}
	}
	return e
}

// loginError returns an [oci.Error] if a registry, or its token endpoint, refused the
// login. It returns other errors unchanged.
func loginError(err error) error {
	if errors.Is(err, auth.ErrBasicCredentialNotFound) {
		return oci.ErrUnauthorized.With("the registry requires a user name and a password")
	}
	var answer *errcode.ErrorResponse
	if !errors.As(err, &answer) || answer.StatusCode >= http.StatusInternalServerError {
		return err
	}
	e := errorsByStatus[answer.StatusCode]
	if e == nil {
		e = oci.ErrUnauthorized.With("the login was refused with status %d",
			answer.StatusCode).WithStatus(answer.StatusCode)
	}
	if len(answer.Errors) > 0 {
		return e.With("%s", printable(answer.Errors[0].Message))
	}
	return e
}

// notFoundAs returns as if err is a 404 without a body, and err otherwise.
func notFoundAs(err error, as *oci.Error) error {
	if e := oci.AsError(err); e != nil && e.Status == http.StatusNotFound && e.Code == "UNKNOWN" {
		return as
	}
	return err
}

// printable makes a message of a registry short, and safe to print on a terminal.
func printable(s string) string {
	const limit = 300
	return terminal.Printable(terminal.Clip(s, limit))
}
