package control

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"ferry/internal/metadb"
)

// A Problem is an error that a caller of the management API sees: a problem
// document (RFC 9457) with a code for programs and advice for people.
type Problem struct {
	Title  string  `json:"title" doc:"The status in words."`
	Status int     `json:"status" doc:"The HTTP status."`
	Detail string  `json:"detail" doc:"What went wrong."`
	Code   string  `json:"code" doc:"What went wrong, for programs." enum:"INVALID,UNAUTHORIZED,DENIED,MANAGED_BY_PARENT,NOT_FOUND,CONFLICT,PRECONDITION_FAILED,TOO_LARGE,TOO_MANY_REQUESTS,INTERNAL,NO_SPACE"`
	Hint   string  `json:"hint,omitempty" doc:"What to do about it."`
	Errors []Fault `json:"errors,omitempty" doc:"What is wrong with the request, one by one."`

	header http.Header
}

// A Fault is one thing that is wrong with a request.
type Fault struct {
	Message  string `json:"message"`
	Location string `json:"location,omitempty" doc:"Where, as in body.mode."`
}

// The codes of a [Problem].
const (
	codeInvalid       = "INVALID"
	codeUnauthorized  = "UNAUTHORIZED"
	codeDenied        = "DENIED"
	codeManaged       = "MANAGED_BY_PARENT"
	codeNotFound      = "NOT_FOUND"
	codeConflict      = "CONFLICT"
	codePrecondition  = "PRECONDITION_FAILED"
	codeTooLarge      = "TOO_LARGE"
	codeTooMany       = "TOO_MANY_REQUESTS"
	codeInternal      = "INTERNAL"
	codeNoSpace       = "NO_SPACE"
	typeProblem       = "application/problem+json"
	plainJSON         = "application/json"
	internalErrorText = "the registry failed to answer; its log says why"
)

// Error implements error.
func (p *Problem) Error() string { return p.Detail }

// GetStatus returns the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// GetHeaders returns the headers that go with the problem.
func (p *Problem) GetHeaders() http.Header { return p.header }

// ContentType returns the media type of the document.
func (p *Problem) ContentType(ct string) string {
	if ct == plainJSON {
		return typeProblem
	}
	return ct
}

func problem(status int, code, format string, args ...any) *Problem {
	return &Problem{Title: http.StatusText(status), Status: status, Code: code, Detail: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) *Problem {
	return problem(http.StatusBadRequest, codeInvalid, format, args...)
}

func conflict(format string, args ...any) *Problem {
	return problem(http.StatusConflict, codeConflict, format, args...)
}

// hint returns p with advice. It may only be called on a fresh one.
func (p *Problem) hint(format string, args ...any) *Problem {
	p.Hint = fmt.Sprintf(format, args...)
	return p
}

// found turns a row that is not there into the problem that the caller sees.
func found(err error, what, name string) error {
	if errors.Is(err, metadb.ErrNotFound) {
		kind := strings.ReplaceAll(strings.TrimPrefix(what, "sync "), " ", "-")
		return problem(http.StatusNotFound, codeNotFound, "the %s '%.100s' could not be found", what, name).
			hint("see ferry %s list", kind)
	}
	return err
}
