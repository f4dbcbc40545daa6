package control

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"ferry/internal/api"
	"ferry/internal/metadb"
)

// An Error is a refusal that the caller sees: a code for programs, of
// [api.Problem], a message for people, and advice.
type Error struct {
	Code, Message, Hint string
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// WithHint returns e with advice. It may only be called on a fresh one.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// Refuse returns an error with a code of [api.Problem].
func Refuse(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Invalid refuses what makes no sense.
func Invalid(format string, args ...any) *Error { return Refuse(api.CodeInvalid, format, args...) }

// Conflict refuses what does not go with what there is.
func Conflict(format string, args ...any) *Error { return Refuse(api.CodeConflict, format, args...) }

// MapNotFound turns [metadb.ErrNotFound] into the refusal that the caller
// sees, and returns every other error as it is.
func MapNotFound(err error, what, name string) error {
	if errors.Is(err, metadb.ErrNotFound) {
		kind := strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(what, "sync "), " rule"), " ", "-")
		return Refuse(api.CodeNotFound, "the %s '%.100s' could not be found", what, name).WithHint("see ferry %s list",
			kind)
	}
	return err
}

// A user's name in HTTP Basic has no colon; a path's segment is neither "." nor "..".
var resourceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

func checkName(what, name string) error {
	if resourceName.MatchString(name) {
		return nil
	}
	return Invalid("'%.100s' is no name for a %s: want 1 to 100 letters, digits, '.', '_' or '-', "+
		"beginning with a letter or digit", name, what)
}
