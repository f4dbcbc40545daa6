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

	names []string // see [Error.Naming]
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// WithHint sets the hint and returns e.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// Naming records that the message or the hint names an object, such as "tokens/line1", which is not
// the one in the request. A caller who may not see it gets [Unseen] instead. It returns e.
func (e *Error) Naming(object string) *Error {
	e.names = append(e.names, object)
	return e
}

// Refuse returns an error with a code of [api.Problem].
func Refuse(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Invalid returns an error for an invalid request.
func Invalid(format string, args ...any) *Error { return Refuse(api.CodeInvalid, format, args...) }

// A Hintless is a refusal that is no error before it has a hint. So none of its kind lacks one.
type Hintless struct{ refusal *Error }

// WithHint returns the error with a hint.
func (h Hintless) WithHint(format string, args ...any) *Error {
	return h.refusal.WithHint(format, args...)
}

// Conflict returns the refusal of a request that conflicts with the current state. The hint names the command,
// or the state, that ends the conflict.
func Conflict(format string, args ...any) Hintless {
	return Hintless{Refuse(api.CodeConflict, format, args...)}
}

// MapNotFound replaces [metadb.ErrNotFound] by an [Error] for the caller. It returns any other
// error unchanged.
func MapNotFound(err error, noun, name string) error {
	if errors.Is(err, metadb.ErrNotFound) {
		return Refuse(api.CodeNotFound, "the %s '%.100s' could not be found", noun, name).WithHint("see ferry %s list",
			command(noun))
	}
	return err
}

// command returns the name of the command for a kind of resource.
func command(noun string) string {
	if noun == "purge rule" {
		return "repository purge-rule"
	}
	return strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(noun, "sync "), " rule"), " ", "-")
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
