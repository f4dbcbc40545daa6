package download

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"ferry/internal/oci"
	"ferry/internal/retry"
	"ferry/internal/storage"
)

func TestPolicyMapsFailuresToVerdicts(t *testing.T) {
	for name, test := range map[string]struct {
		err   error
		kind  failureKind
		tries int
		time  time.Duration
		want  consequence
	}{
		"a broken database":                    {Local(errors.New("disk I/O error")), localFailure, 1, 0, endSession},
		"a file that cannot be written":        {fileError{errors.New("I/O error")}, fileFailure, 1, 0, failBlob},
		"a full disk":                          {Local(oci.ErrNoSpace), notStorable, 1, 0, failBlob},
		"a transfer that another run has open": {Local(storage.ErrBusy), transferBusy, 1, 0, retryBlob},
		"a missing blob":                       {oci.ErrBlobUnknown, refused, 1, 0, failBlob},
		"wrong credentials":                    {oci.ErrUnauthorized, unauthorized, 100, time.Second, retryBlob},
		"wrong credentials for five seconds":   {oci.ErrUnauthorized, unauthorized, 1, 5 * time.Second, failBlob},
		"a server error, three times at once":  {oci.ErrInternal, badAnswer, 3, time.Second, retryBlob},
		"a server error, twice in an hour":     {oci.ErrInternal, badAnswer, 2, time.Hour, retryBlob},
		"server errors for a minute":           {oci.ErrInternal, badAnswer, 3, time.Minute, deferBlob},
		"another range than the wanted one":    {fmt.Errorf("fetch: %w", ErrGarbled), badAnswer, 1, 0, retryBlob},
		"a link that stalls for a minute":      {retry.ErrStalled, linkFailed, 3, time.Minute, deferBlob},
		"wrong content":                        {nil, wrongContent, 1, 0, retryBlob},
		"wrong content again":                  {nil, wrongContent, 2, 0, failBlob},
	} {
		if got := classify(test.err); test.err != nil && got != test.kind {
			t.Errorf("%s: kind = %d, want %d", name, got, test.kind)
		}
		if got := decide(test.kind, test.tries, test.time); got != test.want {
			t.Errorf("%s: consequence = %d, want %d", name, got, test.want)
		}
	}
}

func TestRepeated401BecomesFinal(t *testing.T) {
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	const patience = 5 * time.Second
	l := newSourceLink()
	l.successes = 7
	for _, step := range []struct {
		after     time.Duration
		successes int64
		final     bool
	}{
		{0, 7, false},
		{time.Second, 7, false}, // the token of other requests has expired, too
		{patience - 1, 7, false},
		{patience, 7, true},
		{patience + time.Second, 8, false}, // a request succeeded: another token expired
		{2*patience + time.Second, 8, true},
	} {
		l.successes = step.successes
		if final := l.isFinal(start.Add(step.after), oci.ErrUnauthorized); final != step.final {
			t.Errorf("after %v and %d successes: isFinal = %v", step.after, step.successes, final)
		}
	}
}
