package api

// A Problem is an error that a caller of the management API sees: a problem
// document (RFC 9457) with a code for programs and advice for people.
type Problem struct {
	Title  string  `json:"title" doc:"The status in words."`
	Status int     `json:"status" doc:"The HTTP status."`
	Detail string  `json:"detail" doc:"What went wrong."`
	Code   string  `json:"code" doc:"What went wrong, for programs." enum:"INVALID,UNAUTHORIZED,DENIED,MANAGED_BY_PARENT,NOT_FOUND,CONFLICT,PRECONDITION_FAILED,TOO_LARGE,TOO_MANY_REQUESTS,INTERNAL,NO_SPACE"`
	Hint   string  `json:"hint,omitempty" doc:"What to do about it."`
	Errors []Fault `json:"errors,omitempty" doc:"What is wrong with the request, one by one."`
}

// A Fault is one thing that is wrong with a request.
type Fault struct {
	Message  string `json:"message"`
	Location string `json:"location,omitempty" doc:"Where, as in body.mode."`
}

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
)
