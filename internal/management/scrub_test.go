package management_test

import (
	"context"
	"testing"
	"time"

	"ferry/internal/api"
	"ferry/internal/fleet/fleettest"
	"ferry/internal/management"
	"ferry/internal/metadb/dbtest"
)

// scrubber is a Scrubber whose scrubs end at once and find two damages.
type scrubber struct{ ordered int }

func (v *scrubber) Start(context.Context) error { v.ordered++; return nil }

func (v *scrubber) Status(context.Context) (api.Scrub, error) {
	s := api.Scrub{State: api.ScrubIdle}
	if v.ordered > 0 {
		s.StartTime, s.EndTime, s.ItemsDone, s.ItemsTotal, s.DamagedNow = api.Time(start), api.Time(start), 5, 5, 2
	}
	return s, nil
}

func (v *scrubber) Damaged(_ context.Context, repository, digest string, limit int) (all []api.Damaged, _ error) {
	for _, d := range []api.Damaged{
		{Digest: "sha256:1", Images: []string{"a:v1"}, FoundTime: time.Unix(1, 0).UTC()},
		{Digest: "sha256:2", Repository: new("a"), Images: []string{"a:v1"}, FoundTime: time.Unix(1, 0).UTC()},
	} {
		of := ""
		if d.Repository != nil {
			of = *d.Repository
		}
		if (of > repository || of == repository && d.Digest > digest) && len(all) < limit {
			all = append(all, d)
		}
	}
	return all, nil
}

func TestOperatorsCanVerifyContent(t *testing.T) {
	root := fleettest.New(t, dbtest.SQLite(t), "")
	v := &scrubber{}
	root.Serve(t, management.Options{Scrubber: v})
	var s api.Scrub
	root.Call(t, "GET", "/scrub", nil).OK(t, &s)
	if s.State != api.ScrubIdle || s.StartTime != nil {
		t.Errorf("before: %+v", s)
	}
	root.CallAs(t, "", "", "POST", "/scrub", nil).Fails(t, 401, "UNAUTHORIZED")
	if v.ordered != 0 {
		t.Error("an anonymous request started a scrub")
	}
	root.Call(t, "POST", "/scrub", nil).OK(t, &s)
	if v.ordered != 1 || s.DamagedNow != 2 {
		t.Errorf("after: %+v", s)
	}
	var page struct {
		Value    []api.Damaged
		NextLink string
	}
	root.Call(t, "GET", "/damaged?n=1", nil).OK(t, &page)
	if len(page.Value) != 1 || page.Value[0].Digest != "sha256:1" || page.NextLink == "" {
		t.Fatalf("first page: %+v", page)
	}
	root.Call(t, "GET", page.NextLink[len(api.Root):], nil).OK(t, &page)
	if len(page.Value) != 1 || page.Value[0].Digest != "sha256:2" {
		t.Errorf("second page: %+v", page)
	}
}
