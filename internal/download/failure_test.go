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

func TestFailureDecidesWhatBecomesOfABlob(t *testing.T) {
	for name, test := range map[string]struct {
		err   error
		kind  failure
		tries int
		time  time.Duration
		want  verdict
	}{
		"a database that is broken":            {Local(errors.New("disk I/O error")), local, 1, 0, endSync},
		"a full disk":                          {Local(oci.ErrNoSpace), unstorable, 1, 0, failBlob},
		"a transfer that is open elsewhere":    {Local(storage.ErrBusy), busy, 1, 0, tryAgain},
		"a blob that is not there":             {oci.ErrBlobUnknown, refused, 1, 0, failBlob},
		"bad credentials":                      {oci.ErrUnauthorized, unauthorized, 100, time.Second, tryAgain},
		"bad credentials for a while":          {oci.ErrUnauthorized, unauthorized, 1, 5 * time.Second, failBlob},
		"a server that fails":                  {oci.ErrInternal, answered, 3, time.Second, tryAgain},
		"a server that fails rarely":           {oci.ErrInternal, answered, 2, time.Hour, tryAgain},
		"a server that fails again and again":  {oci.ErrInternal, answered, 3, time.Minute, deferBlob},
		"another range than the one asked for": {fmt.Errorf("fetch: %w", ErrGarbled), answered, 1, 0, tryAgain},
		"a link that is cut again and again":   {retry.ErrStalled, cut, 3, time.Minute, deferBlob},
		"wrong content":                        {nil, corrupt, 1, 0, tryAgain},
		"wrong content again":                  {nil, corrupt, 2, 0, failBlob},
	} {
		if got := classify(test.err); test.err != nil && got != test.kind {
			t.Errorf("%s: is of kind %d, want %d", name, got, test.kind)
		}
		if got := decide(test.kind, test.tries, test.time); got != test.want {
			t.Errorf("%s: the verdict is %d, want %d", name, got, test.want)
		}
	}
}

func TestRepeated401BecomesFinal(t *testing.T) {
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	const patience = 5 * time.Second
	l := newLink()
	l.successes = 7
	for _, step := range []struct {
		after     time.Duration
		successes int64
		final     bool
	}{
		{0, 7, false},
		{time.Second, 7, false}, // others whose token expired
		{patience - 1, 7, false},
		{patience, 7, true},
		{patience + time.Second, 8, false}, // something came: another token expired
		{2*patience + time.Second, 8, true},
	} {
		l.successes = step.successes
		if final := l.final(start.Add(step.after), oci.ErrUnauthorized); final != step.final {
			t.Errorf("after %v, with %d that came through, it is final: %v", step.after, step.successes, final)
		}
	}
}
