// Package outbox sends the changes that clients made at a connected registry up to its parent:
// first the content of an image, children before parents, and then the tag, unless the parent's
// tag was changed meanwhile. What the parent has already is not sent. A send can be stopped at any
// moment, and the next one continues at the same byte.
//
// Package storage records the changes ([storage.Storage.Outbox]). Begin with [Sender.Send].
package outbox

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/singleflight"

	"ferry/internal/metadb"
	"ferry/internal/retry"
	"ferry/internal/storage"
	"ferry/internal/wire"
)

// A Parent receives content and changes. The content is not visible under a tag before its change.
type Parent interface {
	HasManifest(ctx context.Context, repository string, d digest.Digest) (bool, error)
	// SendManifest stores a manifest. Everything below it must be there.
	SendManifest(ctx context.Context, repository string, d digest.Digest, mediaType string, payload []byte) error
	// SendBlob sends a blob, unless the parent has it in its repository.
	SendBlob(ctx context.Context, b Blob) error
	// Push sends changes.
	Push(ctx context.Context, q wire.PushRequest) (*wire.PushResponse, error)
}

// A Blob is a blob to send.
type Blob struct {
	Repository string
	Digest     digest.Digest
	Size       int64
	From       string // a repository that may have the blob at the parent; "" is none
	Upload     string // the id of an upload that has begun; "" is none
	// Started records the id of the upload; "" forgets it.
	Started func(id string) error
	// Open opens the content from an offset on.
	Open func(ctx context.Context, offset int64) (io.ReadCloser, error)
}

// Options configure a Sender. Storage, DB, Parent, Name and InstanceID are required.
type Options struct {
	Storage    *storage.Storage
	DB         *metadb.DB
	Parent     Parent
	Name       string // of this connected registry
	InstanceID string
	// Limit returns a reader of content that keeps to the bandwidth cap; nil is no limit.
	Limit func(ctx context.Context, r io.Reader) io.Reader
	// Audit returns what is written to the audit log about a conflict; nil is nothing.
	Audit func(action, object, detail string) storage.Note
	Log   *slog.Logger // nil discards
}

// A Sender sends the changes of clients to the parent. Its methods are safe for concurrent use. Only
// one Send runs at a time.
type Sender struct {
	Options
	sending sync.Mutex
	uploads singleflight.Group // by repository and blob

	mu   sync.Mutex
	sent map[digest.Digest]int64 // bytes that the parent has, of blobs sent by this process
}

// New returns a sender.
func New(o Options) *Sender {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Limit == nil {
		o.Limit = func(_ context.Context, r io.Reader) io.Reader { return r }
	}
	if o.Audit == nil {
		o.Audit = func(_, _, _ string) storage.Note { return func(*metadb.Tx) error { return nil } }
	}
	return &Sender{Options: o, sent: map[digest.Digest]int64{}}
}

// A Result is the result of a Send.
type Result struct {
	Sent, Refused, Conflicts int   // changes
	Bytes                    int64 // of content
}

// Changed reports whether anything was sent, or refused.
func (r Result) Changed() bool { return r.Sent+r.Refused+r.Conflicts > 0 }

const (
	pageSize = 100 // changes that are read together
	workers  = 8   // images that are sent at a time
)

// Send sends all changes in the repositories that are wanted. A change that the parent refuses does
// not stop the others. The error is one of the link, of the parent, or of this registry: the rest is
// sent by the next Send.
func (s *Sender) Send(ctx context.Context, wanted func(repository string) bool) (Result, error) {
	s.sending.Lock()
	defer s.sending.Unlock()
	t := &tally{}
	for after := int64(0); ctx.Err() == nil; {
		rows, err := s.Storage.Outbox(ctx, after, pageSize)
		if err != nil {
			return t.result, err
		}
		if len(rows) == 0 {
			return t.result, s.forgetUploads(ctx)
		}
		var removed, set []storage.OutboxItem
		for _, row := range rows {
			after = row.Version
			switch {
			case !wanted(row.Repository):
			case row.Digest == "":
				removed = append(removed, row)
			default:
				set = append(set, row)
			}
		}
		if err := s.push(ctx, removed, t); err != nil {
			return t.result, err
		}
		if err := s.sendImages(ctx, set, t); err != nil {
			return t.result, err
		}
	}
	return t.result, context.Cause(ctx)
}

// forgetUploads forgets uploads that have begun for images that clients replaced before they were sent.
// They do no harm while there are other changes.
func (s *Sender) forgetUploads(ctx context.Context) error {
	unused, err := metadb.Read(ctx, s.DB, (*metadb.Tx).HasUnusedUploads)
	if err != nil || !unused {
		return err
	}
	return s.DB.UpdateWithReserve(ctx, (*metadb.Tx).DeleteUnusedUploads)
}

// A tally counts the outcomes of a Send.
type tally struct {
	mu     sync.Mutex
	result Result
}

func (t *tally) add(r Result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.result.Sent += r.Sent
	t.result.Refused += r.Refused
	t.result.Conflicts += r.Conflicts
	t.result.Bytes += r.Bytes
}

// sendImages sends the content and then the changes of items that were set, several at a time. After
// an error it begins no other image.
func (s *Sender) sendImages(ctx context.Context, rows []storage.OutboxItem, t *tally) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	failed := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return first != nil
	}
	next := make(chan storage.OutboxItem)
	for range min(workers, len(rows)) {
		wg.Go(func() {
			for row := range next {
				if err := s.sendImage(ctx, row, t); err != nil {
					mu.Lock()
					first = cmp.Or(first, err)
					mu.Unlock()
				}
			}
		})
	}
	for _, row := range rows {
		if failed() || ctx.Err() != nil {
			break
		}
		next <- row
	}
	close(next)
	wg.Wait()
	if first == nil {
		first = context.Cause(ctx)
	}
	return first
}

// sendImage sends an image and its change.
func (s *Sender) sendImage(ctx context.Context, row storage.OutboxItem, t *tally) error {
	sending := &image{Sender: s, repository: row.Repository, tally: t}
	err := sending.manifest(ctx, digest.Digest(row.Digest), 0)
	if err == nil {
		return s.push(ctx, []storage.OutboxItem{row}, t)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if !refusesImage(err) {
		return err
	}
	return s.record(ctx, storage.SentItem{OutboxItem: row, Refused: err.Error()}, t)
}

// refusesImage reports whether an error concerns one image alone, and lasts.
func refusesImage(err error) bool {
	if errors.As(err, new(lostError)) {
		return true
	}
	return retry.Permanent(err) && !retry.Unauthorized(err) && !errors.As(err, new(vanishedError))
}

// record records an answer to a change.
func (s *Sender) record(ctx context.Context, sent storage.SentItem, t *tally) error {
	log := s.Log.With("repo", sent.Repository, "item", sent.Item, "digest", sent.Digest)
	var notes []storage.Note
	r := Result{}
	switch {
	case sent.Refused != "":
		log.Warn("a change is not sent", "reason", sent.Refused)
		r.Refused++
	case sent.Conflict:
		log.Warn("the parent changed the tag, too; its change holds", "parent", sent.Parent, "keptAs", sent.KeptAs)
		notes = append(notes, s.Audit("conflict", "repositories/"+sent.Repository+"/tags/"+sent.Tag,
			conflictText(sent.Digest, string(sent.Parent), sent.KeptAs)))
		r.Conflicts++
	default:
		log.Info("change is sent")
		r.Sent++
	}
	if err := s.Storage.RecordSent(context.WithoutCancel(ctx), sent, notes...); err != nil {
		return err
	}
	t.add(r)
	return nil
}
