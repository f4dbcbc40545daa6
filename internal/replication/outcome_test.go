package replication

import (
	"errors"
	"fmt"
	"testing"

	"ferry/internal/metadb"
	"ferry/internal/oci"
)

func TestFailuresHaveReasonsForPrograms(t *testing.T) {
	for want, err := range map[string]error{
		"": nil, ReasonDisk: fmt.Errorf("put: %w", oci.ErrNoSpace), ReasonDenied: oci.ErrDenied,
		ReasonMissing:     fmt.Errorf("plan: %w", unavailable("the parent lacks it")),
		ReasonUnsupported: unavailableError{errors.New("schema 1"), true}, ReasonOther: errors.New("disk I/O error"),
	} {
		if got := (Outcome{Err: err}).Reason(); got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
	}
}

func TestRepeatedFailureIsReportedOnce(t *testing.T) {
	var got []Outcome
	e := &Engine{observe: func(_ *metadb.Tx, o Outcome) error {
		got = append(got, o)
		return nil
	}}
	states := []metadb.SyncItem{
		{Digest: "sha256:1", State: Pending}, {Digest: "sha256:1", State: Failed, Error: "a"},
		{Digest: "sha256:1", State: Failed, Error: "a"}, {Digest: "sha256:1", State: Failed, Error: "b"},
		{Digest: "sha256:1", State: Synced}, {Digest: "", State: Synced},
	}
	for i, now := range states[1:] {
		var failure error
		if now.State == Failed {
			failure = errors.New(now.Error)
		}
		if err := e.observeOutcome(nil, states[i], now, failure); err != nil {
			t.Fatal(err)
		}
	}
	if len(got) != 3 || got[0].Err == nil || got[1].Err.Error() != "b" || got[2].Err != nil {
		t.Errorf("%+v", got)
	}
}
