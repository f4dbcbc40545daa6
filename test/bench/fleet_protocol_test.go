//go:build bench

package bench

import (
	"cmp"
	"encoding/json"
	"io"
	"maps"
	"time"

	"github.com/klauspost/compress/zstd"

	"ferry/internal/wire"
)

// pollHold is how long a connected registry asks its parent to hold a poll.
const pollHold = time.Minute

// A follower is the protocol's state of one simulated connected registry: it
// makes the requests, and reads the answers. All that the benchmark knows of
// the gateway protocol is in this file. A follower keeps no content, and so
// fetches no plan and no layer: it reports at once that it has everything.
type follower struct {
	name, instance string

	desired string // the version of its desired state

	// Its place, as in a request to poll.
	feed, subscription string
	cursor             int64
	pass               int64
	page               *wire.Page

	watermarks map[string]int64 // of its parent
	items      int
	syncedAt   time.Time
	reports    bool // its next poll brings a report
}

// A question is one request of the protocol.
type question struct {
	path string
	body any
	hold time.Duration // how long the parent may wait before it answers
}

// activation returns the request that binds the follower to its resource.
func (f *follower) activation() question {
	return question{path: wire.PathActivate, body: wire.ActivateRequest{
		Name: f.name, InstanceID: f.instance, Version: "bench", Capability: wire.Capability,
	}}
}

// activated reads the answer to [follower.activation].
func (f *follower) activated(body []byte) error {
	var a wire.ActivateResponse
	if err := json.Unmarshal(body, &a); err != nil {
		return err
	}
	f.obey(a.Desired)
	return nil
}

// next returns the request that an activated follower sends now. The parent
// may hold it once the follower knows all of its items.
func (f *follower) next() question {
	q := wire.PollRequest{
		Name: f.name, InstanceID: f.instance, Capability: wire.Capability,
		Feed: f.feed, Subscription: f.subscription, Cursor: f.cursor, Pass: f.pass, Page: f.page,
		DesiredVersion: f.desired,
	}
	if f.listed() {
		q.WaitSeconds = int(pollHold / time.Second)
	}
	if f.reports {
		q.Report = f.report()
	}
	return question{path: wire.PathPoll, body: q, hold: time.Duration(q.WaitSeconds) * time.Second}
}

// listed reports whether the follower knows all of its items.
func (f *follower) listed() bool { return f.feed != "" && f.pass == 0 && f.page == nil }

// read reads the answer to [follower.next], and returns the repositories in
// which it says that something changed.
func (f *follower) read(body []byte) (changed []string, err error) {
	var a wire.PollResponse
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, err
	}
	f.reports = false // the last one has arrived
	f.obey(a.Desired)
	whole, moved := f.listed() && !a.Restart, f.cursor != a.Cursor
	if a.Restart {
		f.pass, f.items = a.Head, 0
	}
	f.feed, f.subscription, f.cursor, f.watermarks = a.Feed, a.Subscription, a.Cursor, a.Watermarks
	f.page = nil
	for _, l := range a.Listings {
		if !whole || l.After != "" {
			f.items += len(l.Items) // of later listings there is no need to count
		}
		if whole {
			changed = append(changed, l.Repository)
		}
		if n := len(l.Items); l.More && n > 0 {
			last := l.Items[n-1]
			f.page = &wire.Page{Repository: l.Repository, Seq: l.Seq, After: cmp.Or(last.Tag, string(last.Digest))}
		}
	}
	if !a.More && f.page == nil {
		f.pass = 0
	}
	if f.listed() && (!whole || len(changed) > 0) {
		f.syncedAt = time.Now().UTC()
		f.reports = true
	}
	f.reports = f.reports || moved // its watermark has
	return changed, nil
}

// obey takes over a desired state; nil is that there is no newer one.
func (f *follower) obey(d *wire.Desired) {
	if d != nil {
		f.desired, f.reports = d.Version, true
	}
}

// known returns up to which place in each feed the follower knows everything.
func (f *follower) known() map[string]int64 {
	if !f.listed() {
		return nil
	}
	known := map[string]int64{f.feed: f.cursor}
	maps.Copy(known, f.watermarks)
	return known
}

func (f *follower) report() *wire.Report {
	return &wire.Report{Self: wire.Status{
		Name: f.name, InstanceID: f.instance, Version: "bench", LoginServer: "127.0.0.1:5000",
		State: "Online", At: time.Now().UTC(),
		LastSyncStart: f.syncedAt, LastSyncEnd: f.syncedAt, LastSyncSuccess: f.syncedAt,
		SyncTrigger: "InitialSync", SyncState: "Succeeded", ItemsSynced: f.items, Watermarks: f.known(),
	}}
}

// A codec writes and reads bodies as the gateway's client does: compressed
// where that is smaller. It is safe for concurrent use.
type codec struct {
	writer *zstd.Encoder
	reader *zstd.Decoder
}

const (
	compressFrom = 512      // bytes, from which on a body is compressed
	maxBody      = 32 << 20 // bytes, of an answer
)

func newCodec() (*codec, error) {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(2), zstd.WithWindowSize(1<<20))
	if err != nil {
		return nil, err
	}
	r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxMemory(maxBody))
	return &codec{w, r}, err
}

// encode returns v as JSON, and its Content-Encoding.
func (c *codec) encode(v any) (body []byte, encoding string, err error) {
	body, err = json.Marshal(v)
	if err != nil || len(body) < compressFrom {
		return body, "", err
	}
	if small := c.writer.EncodeAll(body, nil); len(small) < len(body) {
		return small, "zstd", nil
	}
	return body, "", nil
}

// decode reads a body with the Content-Encoding encoding.
func (c *codec) decode(r io.Reader, encoding string) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, maxBody))
	if err != nil || encoding != "zstd" {
		return body, err
	}
	return c.reader.DecodeAll(body, nil)
}
