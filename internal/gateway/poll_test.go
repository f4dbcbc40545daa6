package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/gateway"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/storage"
	"ferry/internal/wire"
)

func TestPollBringsWhatTheChildMaySeeOncePerTag(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		f.activate(t)
		f.image(t, "app/a", "old", "v1") // so that the cursor is not 0
		start := f.head(t)
		f.image(t, "app/a", "1", "v1", "gone")
		f.image(t, "secret/b", "2", "v1")
		second := f.image(t, "app/a", "3", "v1")
		loose := f.image(t, "app/c", "4")
		if err := f.DeleteTag(t.Context(), "app/a", "gone"); err != nil {
			t.Fatal(err)
		}
		a := f.poll(t, wire.PollRequest{Cursor: start, WaitSeconds: 60})
		want := &wire.PollResponse{Capability: wire.Capability, Feed: feedName, Cursor: f.head(t)}
		var tags []wire.Change
		came := false
		for _, c := range a.Changes {
			if c.Tag != "" {
				tags = append(tags, c)
			}
			came = came || c.Kind == string(storage.ManifestAdded) && c.Repository == "app/c" && c.Digest == loose
			if c.Repository == "secret/b" {
				t.Errorf("change %v is not for the child", c)
			}
		}
		if !came {
			t.Error("the manifest without a tag did not come")
		}
		if diff := cmp.Diff([]wire.Change{
			{Kind: string(storage.TagSet), Repository: "app/a", Tag: "v1", Digest: second},
			{Kind: string(storage.TagRemoved), Repository: "app/a", Tag: "gone"},
		}, tags); diff != "" {
			t.Error(diff)
		}
		a.Changes = nil
		if diff := cmp.Diff(want, a); diff != "" {
			t.Error(diff)
		}
	})
}

func TestManifestThatATagOrAnIndexLeadsToIsNoChangeOfItsOwn(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		f.activate(t)
		f.image(t, "app/z", "first", "v1")
		start := f.head(t)
		child := f.image(t, "app/a", "1")
		index := f.index(t, "app/a", []digest.Digest{child}, "v1")
		signature := f.referrer(t, "app/a", "sig", index)
		a := f.poll(t, wire.PollRequest{Cursor: start})
		want := []wire.Change{
			{Kind: string(storage.TagSet), Repository: "app/a", Tag: "v1", Digest: index},
			{Kind: string(storage.ManifestRemoved), Repository: "app/a", Digest: child}, // for who heard of it alone
			{Kind: string(storage.ManifestAdded), Repository: "app/a", Digest: signature},
		}
		if diff := cmp.Diff(want, a.Changes); diff != "" {
			t.Error(diff)
		}
	})
}

func TestManyChangesComeInParts(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	f.image(t, "app/a", "0", "v0")
	start := f.head(t)
	tags := make([]string, 1500)
	for i := range tags {
		tags[i] = fmt.Sprintf("t%d", i)
	}
	f.image(t, "app/a", "1", tags...)
	first := f.poll(t, wire.PollRequest{Cursor: start, WaitSeconds: 60})
	if !first.More || len(first.Changes) == 0 {
		t.Fatalf("first part: more = %v, %d changes", first.More, len(first.Changes))
	}
	second := f.poll(t, wire.PollRequest{Cursor: first.Cursor})
	if second.More || second.Cursor != f.head(t) {
		t.Errorf("second part: more = %v, cursor %d, want %d", second.More, second.Cursor, f.head(t))
	}
}

func TestHeldPollReturnsWithTheFirstVisibleChange(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		f.activate(t)
		f.image(t, "app/a", "0", "v0")
		start := f.head(t)
		type answer struct {
			*wire.PollResponse
			err error
		}
		answers := make(chan answer, 1)
		go func() {
			a, err := f.client.Poll(t.Context(), wire.PollRequest{InstanceID: "instance", DesiredVersion: "1", Cursor: start, WaitSeconds: 60})
			answers <- answer{a, err}
		}()
		f.image(t, "secret/b", "1", "v1")
		d := f.image(t, "app/a", "2", "v1")
		a := <-answers
		if a.err != nil {
			t.Fatal(a.err)
		}
		if len(a.Changes) == 0 { // it was asked between the manifest and the tag
			a.PollResponse = f.poll(t, wire.PollRequest{Cursor: a.Cursor})
		}
		last := a.Changes[len(a.Changes)-1]
		if last.Repository != "app/a" || last.Digest != d {
			t.Errorf("changes = %v, want v1 of app/a", a.Changes)
		}
	})
}

func TestHeldPollReturnsWithANewDesiredState(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	f.image(t, "app/a", "0", "v0")
	start := f.head(t)
	done := make(chan *wire.PollResponse, 1)
	go func() {
		a, err := f.client.Poll(t.Context(), wire.PollRequest{InstanceID: "instance", DesiredVersion: "1", Cursor: start, WaitSeconds: 60})
		if err != nil {
			t.Error(err)
		}
		done <- a
	}()
	f.plane.set(func(p *plane) { p.desired.Version = "2" })
	f.controlChanged(t)
	if a := <-done; a.Desired == nil || a.Desired.Version != "2" {
		t.Errorf("desired = %v, want version 2", a.Desired)
	}
}

func TestHeldPollEndsWithItsSendersRights(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	f.image(t, "app/a", "0", "v0")
	start := f.head(t)
	done := make(chan error, 1)
	go func() {
		_, err := f.client.Poll(t.Context(), wire.PollRequest{InstanceID: "instance", DesiredVersion: "1", Cursor: start, WaitSeconds: 60})
		done <- err
	}()
	f.plane.set(func(p *plane) { p.actions = nil })
	for i := 0; ; i++ { // the first may come before the poll does
		f.image(t, "secret/a", strconv.Itoa(i), "v1")
		select {
		case err := <-done:
			if !errors.Is(err, gateway.ErrUnauthorized) {
				t.Errorf("poll of a sender without rights = %v, want ErrUnauthorized", err)
			}
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestCursorThatLeadsNowhereNeedsASnapshot(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		f.activate(t)
		f.image(t, "app/a", "1", "v1")
		f.image(t, "app/a", "2", "v2")
		for name, cursor := range map[string]int64{"none": 0, "of the future": f.head(t) + 1} {
			if a := f.poll(t, wire.PollRequest{Cursor: cursor, WaitSeconds: 60}); !a.TakeSnapshot || len(a.Changes) > 0 {
				t.Errorf("cursor %s: snapshot = %v, %d changes", name, a.TakeSnapshot, len(a.Changes))
			}
		}
		if err := f.TrimFeed(t.Context(), time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if a := f.poll(t, wire.PollRequest{Cursor: 1}); !a.TakeSnapshot {
			t.Error("cursor of a trimmed part: want a snapshot")
		}
		if a := f.poll(t, wire.PollRequest{Cursor: f.head(t)}); a.TakeSnapshot {
			t.Error("cursor at the head of a trimmed feed: want none")
		}
	})
}

func TestIdlePollIsOneRoundTripUnderAKibibyte(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	f.image(t, "app/a", "1", "v1")
	var dials, up, down atomic.Int64
	transport := gateway.NewTransport()
	defer transport.CloseIdleConnections()
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		c, err := dial(ctx, network, address)
		return &counted{c, &up, &down}, err
	}
	f.client = gateway.NewClient(f.connection("secret"), transport)
	q := wire.PollRequest{Cursor: f.head(t), Report: &wire.Report{Self: wire.Status{Name: "ship1", InstanceID: "instance", State: "Online", SyncState: "Succeeded", ItemsSynced: 50_000}}}
	for i := range 3 {
		up.Store(0)
		down.Store(0)
		f.poll(t, q)
		q.Report = nil
		t.Logf("poll %d: %d bytes up, %d down", i, up.Load(), down.Load())
		if up.Load() >= 1024 || down.Load() >= 1024 {
			t.Errorf("poll %d: %d bytes up and %d down, want less than 1,024 each", i, up.Load(), down.Load())
		}
	}
	if n := dials.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

func TestPollFromAnInstanceThatDoesNotHoldTheRegistryIsRefused(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	_, err := f.client.Poll(t.Context(), wire.PollRequest{InstanceID: "other"})
	if !errors.Is(err, gateway.ErrNotActivated) {
		t.Errorf("poll = %v, want ErrNotActivated", err)
	}
}

func TestTheControlPlaneHearsHowFarASiteHadRead(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	f.poll(t, wire.PollRequest{Cursor: 7})
	if f.plane.cursor != 7 {
		t.Errorf("it heard %d, want 7", f.plane.cursor)
	}
}

func TestReportOfAnotherRegistryIsRefused(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	_, err := f.client.Poll(t.Context(), wire.PollRequest{InstanceID: "instance", Report: &wire.Report{Self: wire.Status{Name: "ship2"}}})
	var answer *gateway.AnswerError
	if !errors.As(err, &answer) || answer.Status != http.StatusBadRequest || len(f.plane.reports) != 0 {
		t.Errorf("poll = %v with %d reports kept, want 400 and none", err, len(f.plane.reports))
	}
}

// counted is a connection that counts its bytes.
type counted struct {
	net.Conn
	up, down *atomic.Int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.up.Add(int64(n))
	return n, err
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.down.Add(int64(n))
	return n, err
}

// controlChanged tells the feed that something in the control plane did.
func (f *fixture) controlChanged(t *testing.T) {
	t.Helper()
	if err := f.db.Update(t.Context(), f.NoteControlChange); err != nil {
		t.Fatal(err)
	}
	f.Notify()
}
