package replication

import (
	"errors"
	"time"

	"ferry/internal/retry"
)

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

// Permanent reports that another try is useless; see package retry.
func (e absentError) Permanent() bool { return true }

// answered reports whether err shows that the link is up.
func answered(err error) bool {
	return retry.Answered(err) || errors.Is(err, errGarbled)
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
