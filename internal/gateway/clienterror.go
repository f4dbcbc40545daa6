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

// AnswerError is a parent's refusal, in its words. It is one of this package's
// errors, or for a blob one of package oci's, to [errors.Is].
type AnswerError struct {
	wire.Problem
	kind  error
	pause time.Duration
}

// Error returns the parent's words.
func (e *AnswerError) Error() string { return e.Detail }

// StatusCode returns the status of the parent's answer.
func (e *AnswerError) StatusCode() int { return e.Status }

// RetryAfter returns how long the parent asks not to be asked again; 0 if it
// does not.
func (e *AnswerError) RetryAfter() time.Duration { return e.pause }

// Unwrap returns the error that the refusal stands for.
func (e *AnswerError) Unwrap() error { return e.kind }

// answerError returns what an answer other than a success says.
func answerError(resp *http.Response) error {
	var answer struct {
		wire.Problem
		Errors []struct { // in the place of the problem, of a blob
			Code    oci.Code `json:"code"`
			Message string   `json:"message"`
		} `json:"errors"`
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err == nil {
		err = json.Unmarshal(body, &answer)
	}
	e := &AnswerError{Problem: answer.Problem, kind: known[answer.Code]}
	switch {
	case bytes.Contains(body, []byte("HTTP request to an HTTPS server")): // as net/http says it
		e.Detail, e.Hint = "the parent speaks TLS, and was asked without", "make a connection string with --parent-protocol https"
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

// maxWords bounds what of a parent's words gets into a log, in bytes.
const maxWords = 1000

func clip(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), maxWords)], "")
}
