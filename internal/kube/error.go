package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// An Error is an answer of the API that is not a success.
type Error struct {
	Status  int    // of HTTP
	Reason  string // of the API, such as Forbidden; may be ""
	Message string // of the API
	where   string
}

// maxMessage bounds a message of the API that is passed on.
const maxMessage = 500

// newError reads the Status object of an answer.
func newError(status int, text []byte, where string) *Error {
	var s struct{ Kind, Reason, Message string }
	if json.Unmarshal(text, &s) != nil || s.Kind != "Status" || s.Message == "" {
		return &Error{status, "", strings.ToLower(http.StatusText(status)), where}
	}
	if len(s.Message) > maxMessage {
		s.Message = strings.ToValidUTF8(s.Message[:maxMessage], "") + "..."
	}
	return &Error{status, s.Reason, s.Message, where}
}

// Error implements [error].
func (e *Error) Error() string {
	return fmt.Sprintf("the Kubernetes API answered %d: %s", e.Status, e.Message)
}

// Hint returns advice for the user, or "".
func (e *Error) Hint() string {
	switch {
	case e.Status == http.StatusUnauthorized:
		return "the API does not accept the credentials of " + e.where
	case e.Status == http.StatusForbidden:
		return "the user of " + e.where + " needs a Role and a RoleBinding that allow this"
	case e.Status == http.StatusNotFound && strings.Contains(e.Message, "namespaces"):
		return "kubectl create namespace NAME"
	case e.Status >= 300 && e.Status < 400:
		return "the address of the API in " + e.where + " leads to another server"
	}
	return ""
}

// StatusOf returns the HTTP status of an [*Error] in err's chain, and 0 if there is none: then the
// API was not reached, or did not answer.
func StatusOf(err error) int {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Status
	}
	return 0
}

// A hinted error also has advice for the user.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// Hint returns the advice.
func (h hinted) Hint() string { return h.hint }

// unreachable explains that the API did not answer.
func unreachable(err error, where string) error {
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("it did not answer within %v seconds", timeout.Seconds())
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = fmt.Errorf("%s: %w", u.URL[:strings.LastIndex(u.URL, "/")+1], u.Err)
	}
	return hinted{fmt.Errorf("reach the Kubernetes API: %w", err), "its address and authority come from " + where}
}
