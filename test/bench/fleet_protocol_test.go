//go:build bench

package bench

import (
	"encoding/json"
	"io"
	"slices"
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

	desired      string // the version of its desired state
	subscription string
	feed         string
	cursor       int64
	listed       bool   // it knows all of its items, and polls for changes
	page         string // of the snapshot: the last page's Next
	items        int
	syncedAt     time.Time
	reports      bool // its next poll brings a report
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

// next returns the request that an activated follower sends now.
func (f *follower) next() question {
	if !f.listed {
		return question{path: wire.PathSnapshot, body: wire.SnapshotRequest{Name: f.name, After: f.page}}
	}
	q := wire.PollRequest{
		Name: f.name, InstanceID: f.instance, Capability: wire.Capability,
		Cursor: f.cursor, DesiredVersion: f.desired, WaitSeconds: int(pollHold / time.Second),
	}
	if f.reports {
		q.Report = f.report()
	}
	return question{path: wire.PathPoll, body: q, hold: pollHold}
}

// read reads the answer to [follower.next], and returns the repositories in
// which it says that something changed.
func (f *follower) read(body []byte) (changed []string, err error) {
	if !f.listed {
		return nil, f.readPage(body)
	}
	var a wire.PollResponse
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, err
	}
	f.reports = false
	f.obey(a.Desired)
	if a.TakeSnapshot || a.Feed != f.feed {
		f.listed, f.page = false, ""
		return nil, nil
	}
	f.cursor = a.Cursor
	for _, c := range a.Changes {
		if !slices.Contains(changed, c.Repository) {
			changed = append(changed, c.Repository)
		}
	}
	if len(changed) > 0 {
		f.reports, f.syncedAt = true, time.Now().UTC()
	}
	return changed, nil
}

// readPage reads a page of a snapshot.
func (f *follower) readPage(body []byte) error {
	var p wire.SnapshotPage
	if err := json.Unmarshal(body, &p); err != nil {
		return err
	}
	if f.page == "" {
		f.feed, f.cursor, f.items = p.Feed, p.Cursor, 0
	}
	f.items += len(p.Items)
	f.page = p.Next
	if f.page == "" {
		f.listed, f.reports, f.syncedAt = true, true, time.Now().UTC()
	}
	return nil
}

// obey takes over a desired state; nil is that there is no newer one.
func (f *follower) obey(d *wire.Desired) {
	if d != nil {
		f.desired, f.subscription, f.reports = d.Version, d.Self.Reach().ID(), true
	}
}

func (f *follower) report() *wire.Report {
	return &wire.Report{Self: wire.Status{
		Name: f.name, InstanceID: f.instance, Version: "bench", LoginServer: "127.0.0.1:5000",
		State: "Online", At: time.Now().UTC(),
		LastSyncStart: f.syncedAt, LastSyncEnd: f.syncedAt, LastSyncSuccess: f.syncedAt,
		SyncTrigger: "InitialSync", SyncState: "Succeeded", Reach: f.subscription, ItemsSynced: f.items,
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
