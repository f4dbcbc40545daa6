package gateway

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"

	"ferry/internal/oci"
	"ferry/internal/wire"
)

// AnswerError is a parent's refusal, in its words. It is one of this
// package's errors to [errors.Is].
type AnswerError struct {
	wire.Problem
	kind error
}

// Error returns the parent's words.
func (e *AnswerError) Error() string { return e.Detail }

// StatusCode returns the status of the parent's answer.
func (e *AnswerError) StatusCode() int { return e.Status }

// Unwrap returns the error of this package that the refusal stands for.
func (e *AnswerError) Unwrap() error { return e.kind }

func answerError(resp *http.Response) error {
	e := &AnswerError{}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err == nil {
		err = json.Unmarshal(body, &e.Problem)
	}
	switch {
	case bytes.Contains(body, []byte("HTTP request to an HTTPS server")): // as net/http says it
		e.Problem = wire.Problem{
			Detail: "the parent speaks TLS, and was asked without",
			Hint:   "make a connection string with --parent-protocol https",
		}
	case resp.StatusCode/100 == 3:
		e.Problem = wire.Problem{Detail: "the parent sends this registry elsewhere: are its endpoint and its protocol right?"}
	case err != nil || e.Detail == "":
		e.Problem = wire.Problem{Detail: "the parent answered " + resp.Status}
	}
	e.Detail, e.Hint = clip(e.Detail), clip(e.Hint)
	e.Status = resp.StatusCode
	e.kind = known[e.Code]
	if e.kind == nil && resp.StatusCode == http.StatusUnauthorized {
		e.kind = ErrUnauthorized
	}
	return later(resp, e)
}

// maxWords bounds what of a parent's words gets into a log, in bytes.
const maxWords = 1000

func clip(s string) string {
	if len(s) > maxWords {
		return strings.ToValidUTF8(s[:maxWords], "")
	}
	return s
}

// later adds the pause that an answer asks for.
func later(resp *http.Response, err error) error {
	if pause := oci.ParseRetryAfter(resp.Header.Get("Retry-After"), time.Now()); pause > 0 {
		return &pausedError{err, pause}
	}
	return err
}

// pausedError is an error of a parent that says when to come back.
type pausedError struct {
	error
	pause time.Duration
}

// Unwrap returns the error itself.
func (e *pausedError) Unwrap() error { return e.error }

// RetryAfter returns how long the parent wants not to be asked.
func (e *pausedError) RetryAfter() time.Duration { return e.pause }

// blobError is the registry's own error, with the pause that it asks for.
func blobError(resp *http.Response) error {
	var body struct {
		Errors []struct {
			Code    oci.Code `json:"code"`
			Message string   `json:"message"`
		} `json:"errors"`
	}
	e := &oci.Error{Code: "UNKNOWN", Message: resp.Status, Status: resp.StatusCode}
	err := json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&body)
	if err == nil && len(body.Errors) > 0 {
		e.Code, e.Message = body.Errors[0].Code, clip(body.Errors[0].Message)
	}
	return later(resp, e)
}
