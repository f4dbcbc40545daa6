package management

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/metadb"
	"ferry/internal/oci"
)

const (
	typeProblem       = "application/problem+json"
	plainJSON         = "application/json"
	internalErrorText = "the registry failed to answer; its log says why"
)

// statuses are the HTTP statuses of the codes. The map is never written.
var statuses = map[string]int{
	api.CodeInvalid:      http.StatusBadRequest,
	api.CodeUnauthorized: http.StatusUnauthorized,
	api.CodeDenied:       http.StatusForbidden,
	api.CodeManaged:      http.StatusForbidden,
	api.CodeNotFound:     http.StatusNotFound,
	api.CodeConflict:     http.StatusConflict,
	api.CodePrecondition: http.StatusPreconditionFailed,
	api.CodeTooMany:      http.StatusTooManyRequests,
	api.CodeInternal:     http.StatusInternalServerError,
	api.CodeNoSpace:      http.StatusInsufficientStorage,
	api.CodeUnavailable:  http.StatusServiceUnavailable,
	api.CodeTooLarge:     http.StatusRequestEntityTooLarge,
}

// A problem is an [api.Problem] with the headers of its answer.
type problem struct {
	api.Problem
	header http.Header
}

var (
	_ huma.StatusError       = (*problem)(nil)
	_ huma.HeadersError      = (*problem)(nil)
	_ huma.ContentTypeFilter = (*problem)(nil)
)

// Error implements error.
func (p *problem) Error() string { return p.Detail }

// GetStatus returns the HTTP status.
func (p *problem) GetStatus() int { return p.Status }

// GetHeaders returns the headers of the answer.
func (p *problem) GetHeaders() http.Header { return p.header }

// ContentType returns the media type of the document.
func (p *problem) ContentType(ct string) string {
	if ct == plainJSON {
		return typeProblem
	}
	return ct
}

// newProblem returns a problem whose status may differ from that of its code.
func newProblem(status int, code, format string, args ...any) *problem {
	return &problem{Problem: api.Problem{Title: http.StatusText(status), Status: status, Code: code,
		Detail: fmt.Sprintf(format, args...)}}
}

// refused returns the problem for a refusal.
func refused(e *control.Error) *problem {
	p := newProblem(statuses[e.Code], e.Code, "%s", e.Message)
	p.Hint = e.Hint
	return p
}

// problemOf returns the problem for any error.
func (h *handler) problemOf(ctx context.Context, op operation, err error) *problem {
	var p *problem
	if errors.As(err, &p) {
		return p
	}
	var refusal *control.Error
	if errors.As(err, &refusal) {
		return refused(refusal)
	}
	if errors.Is(err, oci.ErrNoSpace) || metadb.IsFull(err) {
		h.Log.Error("disk is full", "operation", op.id, "err", err)
		return refused(control.Refuse(api.CodeNoSpace, "%s", oci.ErrNoSpace.Message).
			WithHint("free some space there; stored content is still served"))
	}
	if errors.Is(err, oci.ErrUnavailable) {
		p := refused(control.Refuse(api.CodeUnavailable, "%s", oci.ErrUnavailable.Message))
		p.header = http.Header{"Retry-After": {"5"}}
		return p
	}
	if e := oci.AsError(err); e != nil && e.Status < 500 {
		code := api.CodeInvalid
		switch e.Status {
		case http.StatusNotFound:
			code = api.CodeNotFound
		case http.StatusForbidden:
			code = api.CodeDenied
		}
		return newProblem(e.Status, code, "%s", e.Message)
	}
	if ctx.Err() == nil {
		h.Log.Error("management request failed", "operation", op.id, "err", err)
	}
	return refused(control.Refuse(api.CodeInternal, internalErrorText))
}

// asProblem converts huma's own errors into problems.
func asProblem(_ huma.Context, _ string, v any) (any, error) {
	e, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	p := newProblem(e.Status, api.CodeInvalid, "%s", e.Detail)
	switch e.Status {
	case http.StatusRequestEntityTooLarge:
		p.Code = api.CodeTooLarge
	case http.StatusInternalServerError:
		p.Code, p.Detail = api.CodeInternal, internalErrorText
		return p, nil
	}
	for _, fault := range e.Errors {
		if fault != nil { // the value is left out, because it may be a secret
			p.Errors = append(p.Errors, api.Fault{Message: fault.Message, Location: fault.Location})
		}
	}
	return p, nil
}

// writeProblem sends a problem, outside of huma.
func writeProblem(w http.ResponseWriter, p *problem) {
	body, _ := json.Marshal(p) // strings and numbers
	h := w.Header()
	for key, values := range p.header {
		h[key] = values
	}
	h.Set("Content-Type", typeProblem)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(p.Status)
	w.Write(body)
}

// Refuse sends a refusal, outside of an operation.
func Refuse(w http.ResponseWriter, e *control.Error) { writeProblem(w, refused(e)) }
