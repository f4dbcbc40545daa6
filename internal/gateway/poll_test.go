package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/gateway"
	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/subscription"
	"ferry/internal/wire"
)

// subscribe changes the subscription of every child.
func (f *fixture) subscribe(s wire.Spec) {
	f.controlPlane.set(func(p *controlPlane) { p.desired.Self.Spec = s })
}

// manyTags returns n tags.
func manyTags(n int) (tags []string) {
	for i := range n {
		tags = append(tags, fmt.Sprintf("t%03d", i))
	}
	return tags
}

// outline returns the listings of an answer as texts: a repository, and how many
// items are listed, "short" or "more".
func outline(a *wire.PollResponse) (all []string) {
	for _, l := range a.Listings {
		text := fmt.Sprintf("%s %d", l.Repository, len(l.Items))
		if l.Short {
			text += fmt.Sprintf(" short %d gone", len(l.Gone))
		}
		if l.More {
			text += " more"
		}
		all = append(all, text)
	}
	return all
}

func TestPollListsChangesSinceTheCursor(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		f.activate(t)
		f.image("app/b", "0", "v1")
		old := f.head(t)
		v1 := f.image("app/a", "1", "v1", "gone")
		f.image("secret/b", "2", "v1")
		untagged := f.image("app/c", "4")
		if err := f.DeleteTag(t.Context(), "app/a", "gone"); err != nil {
			t.Fatal(err)
		}
		q := f.at(old)
		q.WaitSeconds = 60
		want := &wire.PollResponse{
			Capability: wire.Capability, Feed: feedName, Subscription: q.Subscription, Cursor: f.head(t),
			Locks: true,
			Listings: []wire.Listing{
				{Repository: "app/c", Seq: old + 3, Items: []wire.Item{{Digest: untagged}}},
				{Repository: "app/a", Seq: old + 4, Items: []wire.Item{{Tag: "v1", Digest: v1}}},
			},
		}
		if diff := cmp.Diff(want, f.poll(t, q)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestPollListsOnlyReadableRepositories(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	f.image("secret/a", "1", "v1")
	for name, q := range map[string]wire.PollRequest{"anew": {}, "since a cursor": f.at(0)} {
		if a := f.poll(t, q); len(a.Listings) > 0 {
			t.Errorf("%s: listings are %v", name, outline(a))
		}
	}
	q := f.at(f.head(t))
	q.Page = &wire.Page{Repository: "secret/a"}
	want := []wire.Listing{{Repository: "secret/a"}} // like a repository that never existed
	if diff := cmp.Diff(want, f.poll(t, q).Listings); diff != "" {
		t.Error(diff)
	}
}

func TestShortListingHasChangesAndAChecksum(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		f.activate(t)
		f.image("app/a", "0", manyTags(20)...)
		untagged := f.image("app/a", "untagged")
		old := f.head(t)
		d := f.image("app/a", "1", "t003", "new")
		if err := f.DeleteTag(t.Context(), "app/a", "t004"); err != nil {
			t.Fatal(err)
		}
		if err := f.SetTag(t.Context(), "app/a", "t005", untagged); err != nil { // now it is no untagged item
			t.Fatal(err)
		}
		if err := f.DeleteTag(t.Context(), "app/a", "t006"); err != nil {
			t.Fatal(err)
		}
		f.image("app/a", "1", "t006") // it is back
		var sum subscription.Checksum
		items := f.list(t, "app/a", wire.Spec{})
		for _, i := range items {
			sum.Add(i.Tag, string(i.Digest), i.Part)
		}
		want := []wire.Listing{{
			Repository: "app/a", Seq: f.head(t), Short: true, Gone: []string{string(untagged), "t004"},
			Count: len(items),
			Sum:   sum.String(), LockSum: subscription.Checksum{}.String(),
			Items: []wire.Item{{Tag: "new", Digest: d}, {Tag: "t003", Digest: d}, {Tag: "t005", Digest: untagged},
				{Tag: "t006", Digest: d}},
		}}
		if diff := cmp.Diff(want, f.poll(t, f.at(old)).Listings); diff != "" {
			t.Error(diff)
		}
	})
}

func TestListingIsCompleteIfAShortOneIsImpossible(t *testing.T) {
	for name, test := range map[string]struct {
		of     wire.Spec
		change func(t *testing.T, f *fixture)
		want   string
	}{
		"a tag was set": {wire.Spec{}, func(t *testing.T, f *fixture) { f.image("app/a", "1", "new") },
			"app/a 1 short 0 gone"},
		"most tags changed": {wire.Spec{}, func(t *testing.T, f *fixture) { f.image("app/a", "1", manyTags(15)...) },
			"app/a 20"},
		"with filters": {wire.Spec{TagFilters: []string{"*"}},
			func(t *testing.T, f *fixture) { f.image("app/a", "1", "new") }, "app/a 21"},
		"with keep-last": {wire.Spec{KeepLast: 5}, func(t *testing.T, f *fixture) { f.image("app/a", "1", "new") },
			"app/a 5"},
		"a subject came late": {wire.Spec{}, func(t *testing.T, f *fixture) {
			subject := f.manifest("app/a", "1")
			f.referrer("app/a", "sbom", digest.FromBytes(subject.Payload()))
			f.Push("app/a", subject, "new")
		}, "app/a 22"},
		"an index leads to a subject": {wire.Spec{Platforms: []string{"linux/amd64"}}, func(t *testing.T, f *fixture) {
			child := f.image("app/a", "1")
			f.referrer("app/a", "sbom", child)
			f.index("app/a", []digest.Digest{child}, "new")
		}, "app/a 22"},
		"the repository was deleted": {wire.Spec{}, func(t *testing.T, f *fixture) {
			if err := f.DeleteRepository(t.Context(), "app/a"); err != nil {
				t.Fatal(err)
			}
		}, "app/a 0"},
		"a removal is forgotten": {wire.Spec{}, func(t *testing.T, f *fixture) {
			if err := f.DeleteTag(t.Context(), "app/a", "t000"); err != nil {
				t.Fatal(err)
			}
			f.poll(t, f.at(0)) // the listing is cached from before
			f.later.Add(10)
			if err := f.TrimFeed(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
		}, "app/a 19"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, dbtest.SQLite(t))
			f.activate(t)
			f.subscribe(test.of)
			f.image("app/a", "0", manyTags(20)...)
			old := f.head(t)
			test.change(t, f)
			if diff := cmp.Diff([]string{test.want}, outline(f.poll(t, f.at(old)))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestUnchangedListingIsNotSentAgain(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	f.subscribe(wire.Spec{TagFilters: []string{"v*"}})
	f.image("app/a", "0", "v1")
	a := f.poll(t, wire.PollRequest{})
	f.image("app/a", "1", "other")
	if a = f.poll(t, f.at(a.Cursor)); len(a.Listings) > 0 || a.Cursor != f.head(t) {
		t.Errorf("cursor %d, listings %v; want %d, and none", a.Cursor, outline(a), f.head(t))
	}
}

func TestListingsAreSharedPerSubscription(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	d := f.image("app/a", "0", "v1")
	first := f.poll(t, wire.PollRequest{})
	err := f.DB.Update(t.Context(), func(tx *metadb.Tx) error { // without a change in the feed
		return tx.SetTag("app/a", "v2", string(d), 1, f.now())
	})
	if err != nil {
		t.Fatal(err)
	}
	second, err := f.second(t).Poll(t.Context(), wire.PollRequest{InstanceID: "instance", DesiredVersion: "1"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("the second child did not get the first one's listing: %s", diff)
	}
	f.subscribe(wire.Spec{TagFilters: []string{"v*"}})
	if diff := cmp.Diff([]string{"app/a 2"}, outline(f.poll(t, wire.PollRequest{}))); diff != "" {
		t.Errorf("another subscription: %s", diff)
	}
}

func TestManyRepositoriesNeedSeveralAnswers(t *testing.T) {
	f := newListingFixture(t, dbtest.SQLite(t), 10)
	f.activate(t)
	for i := range 10 {
		f.image(fmt.Sprint("app/", i), "1", "v1")
	}
	seen := map[string]bool{}
	q := wire.PollRequest{WaitSeconds: 60}
	for n := 1; ; n++ {
		a := f.poll(t, q)
		if a.Restart != (n == 1) {
			t.Errorf("answer %d: restart is %v", n, a.Restart)
		}
		for _, l := range a.Listings {
			if seen[l.Repository] {
				t.Errorf("%s is listed twice", l.Repository)
			}
			seen[l.Repository] = true
		}
		if q = f.at(a.Cursor); !a.More {
			if n != 5 || len(seen) != 10 || a.Cursor != f.head(t) {
				t.Errorf("%d answers with %d repositories, cursor %d; want 5 with 10, %d", n, len(seen), a.Cursor,
					f.head(t))
			}
			return
		}
		q.Pass = 1
	}
}

func TestLargeListingComesInPages(t *testing.T) {
	f := newListingFixture(t, dbtest.SQLite(t), 8)
	f.activate(t)
	f.image("app/a", "1", manyTags(16)...)
	f.image("app/b", "1", "v1")
	first := f.poll(t, wire.PollRequest{})
	if diff := cmp.Diff([]string{"app/a 8 more"}, outline(first)); diff != "" || !first.More {
		t.Errorf("more is %v; %s", first.More, diff)
	}
	q := f.at(first.Cursor)
	q.Pass, q.Page = 1, &wire.Page{Repository: "app/a", Seq: first.Listings[0].Seq, After: "t007"}
	second := f.poll(t, q) // it is full, and still moves past app/a
	if diff := cmp.Diff([]string{"app/a 8"}, outline(second)); diff != "" || !second.More ||
		second.Listings[0].After != "t007" {
		t.Errorf("more is %v; %s", second.More, diff)
	}
	q = f.at(second.Cursor)
	q.Pass = 1
	third := f.poll(t, q)
	if diff := cmp.Diff([]string{"app/b 1"}, outline(third)); diff != "" || third.More || third.Cursor != f.head(t) {
		t.Errorf("more is %v; %s", third.More, diff)
	}
}

func TestPageOfAChangedListingStartsAgain(t *testing.T) {
	f := newListingFixture(t, dbtest.SQLite(t), 4)
	f.activate(t)
	f.image("app/a", "1", manyTags(6)...)
	q := f.at(0)
	q.Page = &wire.Page{Repository: "app/a", Seq: f.head(t), After: "t003"}
	f.image("app/a", "1", "a")
	a := f.poll(t, q)
	if diff := cmp.Diff([]string{"app/a 4 more"}, outline(a)); diff != "" || a.Listings[0].After != "" ||
		a.Listings[0].Items[0].Tag != "a" {
		t.Errorf("%s; after %q", diff, a.Listings[0].After)
	}
}

func TestRepositoryDeletedDuringAPassIsListedEmpty(t *testing.T) {
	f := newListingFixture(t, dbtest.SQLite(t), 4)
	f.activate(t)
	f.image("app/a", "1", "v1")
	f.image("app/b", "1", "v1")
	first := f.poll(t, wire.PollRequest{})
	if err := f.DeleteRepository(t.Context(), "app/a"); err != nil {
		t.Fatal(err)
	}
	q := f.at(first.Cursor)
	q.Pass = 1
	second := f.poll(t, q)
	q = f.at(second.Cursor)
	q.Pass = 1
	if diff := cmp.Diff([]string{"app/a 0"}, outline(f.poll(t, q))); diff != "" {
		t.Errorf("first %v, second %v; %s", outline(first), outline(second), diff)
	}
}

func TestChangesToOthersInAnAnswerHideNone(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	f.image("app/a", "0", manyTags(20)...)
	old := f.head(t)
	f.image("app/a", "1", "first")
	f.image("app/b", "1", "v1")
	f.image("app/a", "1", "second")
	if diff := cmp.Diff([]string{"app/b 1", "app/a 2 short 0 gone"}, outline(f.poll(t, f.at(old)))); diff != "" {
		t.Error(diff)
	}
}

func TestUnusablePlaceRestartsThePass(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		f.activate(t)
		f.image("app/gone", "1", "v1")
		if err := f.DeleteRepository(t.Context(), "app/gone"); err != nil {
			t.Fatal(err)
		}
		trimmed := f.head(t)
		f.image("app/a", "1", "v1")
		f.later.Add(10)
		if err := f.TrimFeed(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		for name, test := range map[string]struct {
			change  func(*wire.PollRequest)
			restart bool
		}{
			"none":                  {func(q *wire.PollRequest) { *q = wire.PollRequest{} }, true},
			"another feed":          {func(q *wire.PollRequest) { q.Feed = "another" }, true},
			"another subscription":  {func(q *wire.PollRequest) { q.Subscription = "another" }, true},
			"beyond the head":       {func(q *wire.PollRequest) { q.Cursor++ }, true},
			"before the trimmed":    {func(q *wire.PollRequest) { q.Cursor = trimmed - 1 }, true},
			"in a pass":             {func(q *wire.PollRequest) { q.Cursor, q.Pass = trimmed-1, trimmed }, false},
			"in a pass from before": {func(q *wire.PollRequest) { q.Pass = trimmed - 1 }, true},
			"behind the trimmed":    {func(q *wire.PollRequest) { q.Cursor = trimmed }, false},
			"a page of it": {func(q *wire.PollRequest) {
				q.Feed, q.Page = "another",
					&wire.Page{Repository: "app/x"}
			}, true},
		} {
			q := f.at(f.head(t))
			test.change(&q)
			q.WaitSeconds = 60
			a := f.poll(t, q)
			if diff := cmp.Diff([]string{"app/a 1"}, outline(a)); diff != "" || a.Restart != test.restart ||
				a.Cursor != f.head(t) {
				t.Errorf("%s: restart %v, cursor %d; %s", name, a.Restart, a.Cursor, diff)
			}
		}
	})
}

func TestPollPassesOnWatermarksAndDesiredState(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	f.watermarks.Store(&map[string]int64{"root": 7})
	f.lacking = []wire.OutOfSyncItem{{Repository: "app/a", Tag: "v1", Digest: "sha256:1", Error: "schema 1"},
		{Repository: "secret", Tag: "v1"}}
	a := f.poll(t, f.at(0))
	if diff := cmp.Diff(f.lacking[:1], a.Lacking); diff != "" {
		t.Errorf("items that the parent lacks: %s", diff)
	}
	if diff := cmp.Diff(map[string]int64{"root": 7}, a.Watermarks); diff != "" || a.Desired != nil {
		t.Errorf("desired state %v, which the child has; %s", a.Desired, diff)
	}
	f.controlPlane.set(func(p *controlPlane) { p.desired.Version = "2" })
	if a := f.poll(t, f.at(0)); a.Desired == nil || a.Desired.Version != "2" || a.Desired.Self.Name != "ship1" {
		t.Errorf("desired state is %+v, want version 2", a.Desired)
	}
}

// An answer is the answer to a poll, or its error.
type answer struct {
	*wire.PollResponse
	err  error
	took time.Duration
}

// hold sends a poll, and returns once the parent holds it.
func (f *fixture) hold(t *testing.T, q wire.PollRequest) <-chan answer {
	t.Helper()
	q.InstanceID, q.DesiredVersion, q.WaitSeconds = "instance", "1", 3600
	done := make(chan answer, 1)
	start := time.Now()
	go func() {
		a, err := f.client.Poll(t.Context(), q)
		done <- answer{a, err, time.Since(start)}
	}()
	synctest.Wait()
	select {
	case a := <-done:
		t.Fatalf("the poll was not held: %+v", a)
	default:
	}
	return done
}

func TestHeldPollEndsWithAChangeInScope(t *testing.T) {
	held(t, func(t *testing.T, f *fixture) {
		f.subscribe(wire.Spec{TagFilters: []string{"v*"}})
		f.image("app/a", "0", "v0")
		start := f.poll(t, wire.PollRequest{}).Cursor
		done := f.hold(t, f.at(start))
		f.image("secret/b", "1", "v1")
		f.image("app/a", "1", "other")
		synctest.Wait()
		if len(done) > 0 {
			t.Fatalf("a change out of scope ended the poll: %+v", <-done)
		}
		f.image("app/a", "2", "v1")
		a := <-done
		if a.err != nil || a.took > 0 {
			t.Fatalf("%v after %v", a.err, a.took)
		}
		if diff := cmp.Diff([]string{"app/a 2"}, outline(a.PollResponse)); diff != "" || a.Cursor != f.head(t) {
			t.Errorf("cursor %d, want %d; %s", a.Cursor, f.head(t), diff)
		}
	})
}

func TestPollIsHeldForAMinuteAtMost(t *testing.T) {
	held(t, func(t *testing.T, f *fixture) {
		done := f.hold(t, f.at(f.head(t)))
		f.image("secret/b", "1", "v1")
		if a := <-done; a.err != nil || a.took != time.Minute || len(a.Listings) > 0 {
			t.Errorf("%+v after %v, want an empty answer after a minute", a, a.took)
		}
	})
}

func TestHeldPollEndsWithANewDesiredState(t *testing.T) {
	held(t, func(t *testing.T, f *fixture) {
		done := f.hold(t, f.at(0))
		f.controlPlane.set(func(p *controlPlane) { p.desired.Version = "2" })
		if a := <-done; a.err != nil || a.took > 0 || a.Desired == nil || a.Desired.Version != "2" {
			t.Errorf("%+v after %v, want version 2 at once", a, a.took)
		}
	})
}

func TestHeldPollRestartsWithANewSubscription(t *testing.T) {
	held(t, func(t *testing.T, f *fixture) {
		f.image("app/a", "0", "v0", "other")
		done := f.hold(t, f.at(f.head(t)))
		f.subscribe(wire.Spec{TagFilters: []string{"v*"}})
		if a := <-done; a.err != nil || !a.Restart || len(a.Listings) != 1 || len(a.Listings[0].Items) != 1 {
			t.Errorf("%+v, want a listing of every repository", a)
		}
	})
}

func TestHeldPollEndsIfTheTokenLosesItsRights(t *testing.T) {
	held(t, func(t *testing.T, f *fixture) {
		done := f.hold(t, f.at(f.head(t)))
		f.controlPlane.set(func(p *controlPlane) { p.actions = nil })
		f.image("app/a", "1", "v1")
		if a := <-done; !errors.Is(a.err, gateway.ErrUnauthorized) {
			t.Errorf("poll of a sender without rights = %+v, want ErrUnauthorized", a)
		}
	})
}

func TestPassIsNotHeld(t *testing.T) {
	held(t, func(t *testing.T, f *fixture) {
		q, start := f.at(f.head(t)), time.Now()
		q.Pass, q.WaitSeconds = 1, 60
		if f.poll(t, q); time.Since(start) > 0 {
			t.Errorf("the end of a pass came after %v", time.Since(start))
		}
	})
}

func TestIdlePollIsOneRoundTripUnderAKibibyte(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	f.image("app/a", "1", "v1")
	var dials, up, down atomic.Int64
	transport := gateway.NewTransport()
	defer transport.CloseIdleConnections()
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		c, err := dial(ctx, network, address)
		return &countingConn{c, &up, &down}, err
	}
	f.client = gateway.NewClient(f.connection("secret"), transport)
	q := f.at(f.head(t))
	q.Report = &wire.Report{Self: wire.Status{Name: "ship1", InstanceID: "instance", State: "Online",
		SyncState: "Succeeded", ItemsSynced: 50_000}}
	for i := range 3 {
		up.Store(0)
		down.Store(0)
		f.poll(t, q)
		q.Report = nil
		if up.Load() >= 1024 || down.Load() >= 1024 {
			t.Errorf("poll %d: %d bytes up and %d down, want less than 1,024 each", i, up.Load(), down.Load())
		}
	}
	if n := dials.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

func TestPollWithoutActivationIsRefused(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	_, err := f.client.Poll(t.Context(), wire.PollRequest{InstanceID: "other"})
	if !errors.Is(err, gateway.ErrNotActivated) {
		t.Errorf("poll = %v, want ErrNotActivated", err)
	}
}

func TestReportOfAnotherRegistryIsRefused(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	f.poll(t, wire.PollRequest{})
	f.poll(t, wire.PollRequest{Report: &wire.Report{Self: wire.Status{Name: "ship1", State: "Online"}}})
	_, err := f.client.Poll(t.Context(),
		wire.PollRequest{InstanceID: "instance", Report: &wire.Report{Self: wire.Status{Name: "ship2"}}})
	var refusal *gateway.AnswerError
	if !errors.As(err, &refusal) || refusal.Status != http.StatusBadRequest {
		t.Errorf("report of another = %v, want 400", err)
	}
	if len(f.controlPlane.reports) != 1 || f.controlPlane.reports[0].Self.State != "Online" {
		text, _ := json.Marshal(f.controlPlane.reports)
		t.Errorf("kept are %s", strings.TrimSpace(string(text)))
	}
}

// countingConn is a connection that counts its bytes.
type countingConn struct {
	net.Conn
	up, down *atomic.Int64
}

func (c *countingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.up.Add(int64(n))
	return n, err
}

func (c *countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.down.Add(int64(n))
	return n, err
}
