package gateway_test

import (
	"context"
	"errors"
	"testing"

	"ferry/internal/gateway"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/wire"
)

func TestPollBringsRecordsUntilTheyAreStored(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	one := wire.Event{ID: "1-1", Registry: "ship1", Type: "push", Repository: "app/a", Tag: "v1"}
	q := f.at(f.head(t))
	q.Events = []wire.Event{one}
	if a := f.poll(t, q); a.Stored != nil {
		t.Errorf("a parent that takes no events answers %+v", a.Stored)
	}

	var got []wire.Event
	var failure error
	handler := gateway.NewServer(gateway.ServerOptions{
		Storage: f.Storage, ControlPlane: f.controlPlane, Authenticate: f.controlPlane.authenticate, Feed: feedName,
		Receive: func(_ context.Context, child string, events []wire.Event, _ []wire.AuditEntry) (wire.Stored, error) {
			if child != "ship1" {
				t.Errorf("from %s", child)
			}
			got = append(got, events...)
			if failure != nil {
				return wire.Stored{}, failure
			}
			return wire.Stored{Events: len(events)}, nil
		},
	})
	f.client = gateway.NewClient(f.connection("secret"), direct{handler})
	if a := f.poll(t, q); a.Stored == nil || a.Stored.Events != 1 || len(got) != 1 || got[0] != one {
		t.Errorf("%+v, and the parent got %+v", a.Stored, got)
	}
	failure = errors.New("the disk is full")
	if a := f.poll(t, q); a.Stored == nil || a.Stored.Events != 0 {
		t.Errorf("after a failure: %+v", a.Stored)
	}
	q.Events = make([]wire.Event, 201)
	q.InstanceID = "instance"
	if _, err := f.client.Poll(t.Context(), q); err == nil {
		t.Error("a poll with too many events is accepted")
	}
}
