package connected

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"ferry/internal/oci"
	"ferry/internal/replication"
)

func TestFullDiskIsReportedOnce(t *testing.T) {
	full := fmt.Errorf("%w: write transfer: no space left on device", oci.ErrNoSpace)
	example := "; app v1: " + full.Error()
	other := errors.New("the database is locked")
	for _, test := range []struct {
		o       outcome
		example string
		want    string // codes
	}{
		{outcome{err: full}, "", "DiskError"},
		{outcome{Result: replication.Result{Failed: 2}, err: full}, example, "DiskError ItemsFailed"},
		{outcome{Result: replication.Result{Failed: 2}, err: other}, example, "DiskError SyncError ItemsFailed"},
	} {
		var codes, texts []string
		for _, d := range failuresOf(test.o, test.example, true) {
			codes, texts = append(codes, d.Code), append(texts, d.Description)
		}
		if got := strings.Join(codes, " "); got != test.want {
			t.Errorf("%v: %s, want %s", test.o, got, test.want)
		}
		if n := strings.Count(strings.Join(texts, "\n"), "no space left"); n != 1 {
			t.Errorf("%d times: %q", n, texts)
		}
	}
}
