package replication

import (
	"errors"
	"net/http"
	"time"

	"ferry/internal/gateway"
	"ferry/internal/oci"
)

// errStalled is the cause with which a connection that moves nothing is dropped.
var errStalled = errors.New("the connection moved no byte for too long")

// errGarbled says that what a source sent makes no sense, or is not what its
// digest says: the link spoilt it, or the source has it so.
var errGarbled = errors.New("the source sent something else")

// An ownError is this registry's own, of its disk or its database: no source
// can help.
type ownError struct{ error }

// Unwrap returns the error itself.
func (e ownError) Unwrap() error { return e.error }

// An absentError says that the source does not have what is needed.
type absentError struct{ error }

// Unwrap returns the error itself.
func (e absentError) Unwrap() error { return e.error }

// retryAfter is implemented by errors of sources that say when to come back.
type retryAfter interface{ RetryAfter() time.Duration }

// Pause returns how long the source asked not to be asked again, at most an
// hour; 0 where it did not say.
func Pause(err error) time.Duration {
	if asked := retryAfter(nil); errors.As(err, &asked) {
		return min(asked.RetryAfter(), time.Hour)
	}
	return 0
}

// status returns the HTTP status with which the source answered; 0 where the
// error is of the link.
func status(err error) int {
	if answer := (*gateway.AnswerError)(nil); errors.As(err, &answer) {
		return answer.Status
	}
	if e := oci.AsError(err); e != nil {
		return e.Status
	}
	return 0
}

// answered reports whether err shows that the link is up.
func answered(err error) bool {
	return status(err) != 0 || errors.Is(err, errGarbled)
}

// Permanent reports whether trying again without a change at the source is
// of no use. Everything that is not known to be so, a broken link above all,
// is worth another try.
func Permanent(err error) bool {
	if errors.As(err, &absentError{}) {
		return true
	}
	for _, final := range []error{gateway.ErrAlreadyActivated, gateway.ErrNotActivated, gateway.ErrUnauthorized, gateway.ErrUnknown} {
		if errors.Is(err, final) {
			return true
		}
	}
	switch s := status(err); s {
	case http.StatusRequestTimeout, http.StatusTooManyRequests:
		return false
	default:
		return s >= 400 && s < 500
	}
}

// unauthorized reports whether the source did not accept the credentials.
func unauthorized(err error) bool {
	return errors.Is(err, gateway.ErrUnauthorized) || status(err) == http.StatusUnauthorized
}

// pardon is for how long a source may refuse credentials that it knew before:
// those that expire are renewed meanwhile.
const pardon = 5 * time.Second

// refusals are answers of 401 in a row.
type refusals struct {
	since time.Time // zero is none
	proof int64     // of the link, at the first
}

// again notes a refusal, with what came through so far, and reports whether
// there were enough of them and nothing else.
func (b *refusals) again(now time.Time, proof int64) bool {
	if b.since.IsZero() || proof > b.proof {
		*b = refusals{now, proof}
	}
	return now.Sub(b.since) >= pardon
}
