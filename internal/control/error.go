package control

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"ferry/internal/api"
	"ferry/internal/metadb"
)

// An Error is a refusal for the caller, with a code of [api.Problem] for programs, a message for
// people, and a hint.
type Error struct {
	Code, Message, Hint string
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// WithHint sets the hint and returns e.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// Refuse returns an error with a code of [api.Problem].
func Refuse(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Invalid returns an error for an invalid request.
func Invalid(format string, args ...any) *Error { return Refuse(api.CodeInvalid, format, args...) }

// Conflict returns an error for a request that conflicts with the current state.
func Conflict(format string, args ...any) *Error { return Refuse(api.CodeConflict, format, args...) }

// MapNotFound replaces [metadb.ErrNotFound] by an [Error] for the caller. It returns any other
// error unchanged.
func MapNotFound(err error, noun, name string) error {
	if errors.Is(err, metadb.ErrNotFound) {
		kind := strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(noun, "sync "), " rule"), " ", "-")
		if noun == "purge rule" {
			kind = "repository purge-rule"
		}
		return Refuse(api.CodeNotFound, "the %s '%.100s' could not be found", noun, name).WithHint("see ferry %s list",
			kind)
	}
	return err
}

// resourceName suits HTTP Basic, whose user names have no colon, and URL paths, whose segments are
// neither "." nor "..".
var resourceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

func checkName(noun, name string) error {
	if resourceName.MatchString(name) {
		return nil
	}
	return Invalid("'%.100s' is not a name for %s: want 1 to 100 letters, digits, '.', '_' or '-', "+
		"beginning with a letter or digit", name, noun)
}
