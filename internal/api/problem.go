package api

// A Problem is an error of the management API: a problem document (RFC 9457) with a code for
// programs and a hint for people.
type Problem struct {
	Title  string  `json:"title" doc:"The status in words."`
	Status int     `json:"status" doc:"The HTTP status."`
	Detail string  `json:"detail" doc:"What went wrong."`
	Code   string  `json:"code" doc:"What went wrong, for programs."`
	Hint   string  `json:"hint,omitempty" doc:"What to do about it."`
	Errors []Fault `json:"errors,omitempty" doc:"The faults of the request."`
}

// A Fault is one fault of a request.
type Fault struct {
	Message  string `json:"message"`
	Location string `json:"location,omitempty" doc:"Such as body.mode."`
}

// TextReadOnly refuses a write to a ReadOnly connected registry, in the words of the reference.
const TextReadOnly = "This operation is not allowed on this registry."

// The codes of a [Problem].
const (
	CodeInvalid      = "INVALID"
	CodeUnauthorized = "UNAUTHORIZED"
	CodeDenied       = "DENIED"
	CodeManaged      = "MANAGED_BY_PARENT"
	CodeNotFound     = "NOT_FOUND"
	CodeConflict     = "CONFLICT"
	CodePrecondition = "PRECONDITION_FAILED"
	CodeTooLarge     = "TOO_LARGE"
	CodeTooMany      = "TOO_MANY_REQUESTS"
	CodeInternal     = "INTERNAL"
	CodeNoSpace      = "NO_SPACE"
	CodeUnavailable  = "UNAVAILABLE"
)
