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

// A childState is the protocol state of one simulated connected registry: it makes requests and
// reads responses. Everything that the benchmark knows of the gateway protocol is in this file.
// A simulated child stores no content and requests no plans and layers. It reports at once
// that it has everything.
type childState struct {
	name, instance string

	desired string // version of its desired state

	// Its position, as in a poll request.
	feed, subscription string
	cursor             int64
	pass               int64
	page               *wire.Page

	watermarks map[string]int64 // of the parent
	items      int
	syncedAt   time.Time
	reportDue  bool // the next poll contains a report
}

// A request is a request of the protocol.
type request struct {
	path string
	body any
	hold time.Duration // for how long the parent may hold it
}

// activateRequest returns the request that activates the child.
func (f *childState) activateRequest() request {
	return request{path: wire.PathActivate, body: wire.ActivateRequest{
		Name: f.name, InstanceID: f.instance, Version: "bench", Capability: wire.Capability,
	}}
}

// readActivation reads the response to [childState.activateRequest].
func (f *childState) readActivation(body []byte) error {
	var a wire.ActivateResponse
	if err := json.Unmarshal(body, &a); err != nil {
		return err
	}
	f.applyDesired(a.Desired)
	return nil
}

// nextRequest returns the next request of an activated child. The parent may hold it once the
// child knows all of its items.
func (f *childState) nextRequest() request {
	q := wire.PollRequest{
		Name: f.name, InstanceID: f.instance, Capability: wire.Capability,
		Feed: f.feed, Subscription: f.subscription, Cursor: f.cursor, Pass: f.pass, Page: f.page,
		DesiredVersion: f.desired,
	}
	if f.isCurrent() {
		q.WaitSeconds = int(pollHold / time.Second)
	}
	if f.reportDue {
		q.Report = f.report()
	}
	return request{path: wire.PathPoll, body: q, hold: time.Duration(q.WaitSeconds) * time.Second}
}

// isCurrent reports whether the child knows all of its items.
func (f *childState) isCurrent() bool { return f.feed != "" && f.pass == 0 && f.page == nil }

// readPoll reads the response to [childState.nextRequest], and returns the repositories that
// changed.
func (f *childState) readPoll(body []byte) (changed []string, err error) {
	var a wire.PollResponse
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, err
	}
	f.reportDue = false // the parent has it
	f.applyDesired(a.Desired)
	whole, moved := f.isCurrent() && !a.Restart, f.cursor != a.Cursor
	if a.Restart {
		f.pass, f.items = a.Head, 0
	}
	f.feed, f.subscription, f.cursor, f.watermarks = a.Feed, a.Subscription, a.Cursor, a.Watermarks
	f.page = nil
	for _, l := range a.Listings {
		if !whole || l.After != "" {
			f.items += len(l.Items) // later listings need not be counted
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
	if f.isCurrent() && (!whole || len(changed) > 0) {
		f.syncedAt = time.Now().UTC()
		f.reportDue = true
	}
	f.reportDue = f.reportDue || moved // with a new watermark
	return changed, nil
}

// applyDesired records a desired state; nil if there is no newer one.
func (f *childState) applyDesired(d *wire.Desired) {
	if d != nil {
		f.desired, f.reportDue = d.Version, true
	}
}

// knownCursors returns, for each feed, the cursor up to which the child knows everything.
func (f *childState) knownCursors() map[string]int64 {
	if !f.isCurrent() {
		return nil
	}
	known := map[string]int64{f.feed: f.cursor}
	maps.Copy(known, f.watermarks)
	return known
}

func (f *childState) report() *wire.Report {
	return &wire.Report{Self: wire.Status{
		Name: f.name, InstanceID: f.instance, Version: "bench", LoginServer: "127.0.0.1:5000",
		State: "Online", At: time.Now().UTC(),
		LastSyncStart: f.syncedAt, LastSyncEnd: f.syncedAt, LastSyncSuccess: f.syncedAt,
		SyncTrigger: "InitialSync", SyncState: "Succeeded", ItemsSynced: f.items, Watermarks: f.knownCursors(),
	}}
}

// A codec encodes and decodes bodies like the gateway's client: compressed if that is smaller. It
// is safe for concurrent use.
type codec struct {
	writer *zstd.Encoder
	reader *zstd.Decoder
}

const (
	minCompressed = 512      // bytes; shorter bodies are not compressed
	maxBody       = 32 << 20 // bytes of a response
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
	if err != nil || len(body) < minCompressed {
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
