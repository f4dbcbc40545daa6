package replication

import (
	"testing"
	"time"
)

func TestCredentialsAreWrongOnceNothingElseIsSaidForAWhile(t *testing.T) {
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	var b refusals
	for _, step := range []struct {
		after time.Duration
		proof int64
		final bool
	}{
		{0, 7, false},
		{time.Second, 7, false}, // the others whose token expired
		{pardon - 1, 7, false},
		{pardon, 7, true},
		{pardon + time.Second, 8, false}, // something came: it is another token that expired
		{2*pardon + time.Second, 8, true},
	} {
		if final := b.again(start.Add(step.after), step.proof); final != step.final {
			t.Errorf("after %v, with %d that came through, it is final: %v", step.after, step.proof, final)
		}
	}
}
