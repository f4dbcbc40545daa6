package storage

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/retry"
	"ferry/internal/storage/blob"
)

const (
	parallelBlobs = 8 // copied at a time
	// copySync is how many bytes of a blob are made durable at a time.
	copySync = 64 << 20
	// copyTries is how often a blob is tried in a row.
	copyTries = 5
)

// A BlobCopy copies the blobs of one store to another, in passes, and verifies the digest of all bytes that
// it writes. An instance may use the store From meanwhile. Nobody may use the store To, except this copy.
// What an earlier copy has written to it is used again.
type BlobCopy struct {
	From, To blob.Store
	Pace     Pace // of the bytes that are read

	mu       sync.Mutex
	verified map[digest.Digest]int64 // blobs that To has, with their sizes
	damaged  map[digest.Digest]damagedFile
	pass     CopyPass
}

// A damagedFile is a blob of From that is not copied.
type damagedFile struct {
	modified time.Time
	reason   string
}

// A CopyPass is what one pass has done, or is doing.
type CopyPass struct {
	Begun       time.Time
	Blobs       int // that are done
	BlobsTotal  int // that were not known to be in the target when the pass began
	Bytes       int64
	BytesTotal  int64
	Copied      int // of Blobs; the others were there
	CopiedBytes int64
}

// NewBlobCopy returns a copy that has not begun.
func NewBlobCopy(from, to blob.Store, pace Pace) *BlobCopy {
	return &BlobCopy{
		From: from, To: to, Pace: pace, verified: map[digest.Digest]int64{}, damaged: map[digest.Digest]damagedFile{},
	}
}

// Progress describes the last pass.
func (c *BlobCopy) Progress() CopyPass {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pass
}

// Total returns the number and the size of the blobs that the target has.
func (c *BlobCopy) Total() (blobs int, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, size := range c.verified {
		bytes += size
	}
	return len(c.verified), bytes
}

// Damaged returns the blobs of From that were not copied, and the reasons.
func (c *BlobCopy) Damaged() map[digest.Digest]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[digest.Digest]string{}
	for d, f := range c.damaged {
		all[d] = f.reason
	}
	return all
}

// Run copies the blobs that From has at this moment, and To lacks. After an error, call it again to
// continue. A blob that is deleted meanwhile is left out, and so is one that is damaged.
func (c *BlobCopy) Run(ctx context.Context) (CopyPass, error) {
	todo, err := c.begin(ctx)
	if err == nil {
		err = c.checkRoom(ctx, todo)
	}
	if err != nil {
		return CopyPass{}, err
	}
	g, each := errgroup.WithContext(ctx)
	g.SetLimit(parallelBlobs)
	for _, info := range todo {
		if each.Err() != nil {
			break
		}
		g.Go(func() error { return c.one(each, info) })
	}
	err = g.Wait()
	if err == nil {
		err = context.Cause(ctx)
	}
	return c.Progress(), err
}

// begin returns the blobs that are to be copied in a pass.
func (c *BlobCopy) begin(ctx context.Context) (todo []blob.Info, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pass = CopyPass{Begun: time.Now()}
	err = c.From.Walk(ctx, func(info blob.Info) error {
		_, verified := c.verified[info.Digest]
		if f, damaged := c.damaged[info.Digest]; !verified && (!damaged || !f.modified.Equal(info.Modified)) {
			todo = append(todo, info)
			c.pass.BytesTotal += info.Size
		}
		return nil
	})
	c.pass.BlobsTotal = len(todo)
	return todo, err
}

// checkRoom returns an error if the target has no room for the blobs that it lacks.
func (c *BlobCopy) checkRoom(ctx context.Context, todo []blob.Info) error {
	free, err := c.To.Free(ctx)
	var need int64
	for _, info := range todo {
		need += info.Size
	}
	if err != nil || need <= free {
		return err
	}
	for _, info := range todo {
		there, err := c.To.Stat(ctx, info.Digest)
		switch {
		case err == nil:
			need -= min(there.Size, info.Size)
		case !errors.Is(err, blob.ErrNotExist):
			return err
		}
	}
	if need > free {
		return fmt.Errorf("%w: the blobs have %d bytes more than the target has room for", oci.ErrNoSpace, need-free)
	}
	return nil
}

// one copies a blob, unless it is there.
func (c *BlobCopy) one(ctx context.Context, info blob.Info) error {
	pauses := retry.NewBackoff(time.Second, 30*time.Second, 2)
	for try := 1; ; try++ {
		there, err := c.has(ctx, info)
		if err == nil && there {
			c.finish(info, func(pass *CopyPass) { pass.Bytes += info.Size })
			return nil
		}
		var reason string
		if err == nil {
			reason, err = c.copy(ctx, info)
		}
		switch {
		case err == nil && reason == "":
			c.finish(info, func(pass *CopyPass) { // its bytes were counted
				pass.Copied++
				pass.CopiedBytes += info.Size
			})
			return nil
		case err == nil:
			c.leaveOut(info, reason)
			return nil
		case errors.Is(err, blob.ErrNotExist) && c.isGone(ctx, info.Digest):
			c.leaveOut(info, "")
			return nil
		case ctx.Err() != nil || isDiskFull(err) || try == copyTries:
			return fmt.Errorf("copy blob %s: %w", info.Digest, err)
		}
		if err := retry.Sleep(ctx, pauses.NextBackOff(), nil); err != nil {
			return fmt.Errorf("copy blob %s: %w", info.Digest, err)
		}
	}
}

// has reports whether the target has a blob. It reads the content, unless the target knows that it is
// as it was committed.
func (c *BlobCopy) has(ctx context.Context, info blob.Info) (bool, error) {
	there, err := c.To.Stat(ctx, info.Digest)
	if errors.Is(err, blob.ErrNotExist) || err == nil && there.Size != info.Size {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if store, ok := c.To.(blob.Keeper); ok {
		return store.Keeps(ctx, info.Digest)
	}
	reason, err := checkContent(ctx, c.To, info.Digest, info.Size, c.Pace)
	return reason == "", err
}

func (c *BlobCopy) isGone(ctx context.Context, d digest.Digest) bool {
	_, err := c.From.Stat(ctx, d)
	return errors.Is(err, blob.ErrNotExist)
}

// copiedPartial returns the name of the partial of a blob that is copied.
func copiedPartial(d digest.Digest) string {
	return "copy-" + string(d.Algorithm()) + "-" + d.Encoded()
}

// errResumed says that the bytes of an interrupted copy do not belong to the blob.
var errResumed = errors.New("what an interrupted copy has left is damaged")

// copy copies a blob. It continues a partial of an interrupted copy, whose bytes it reads again. If the
// content of From is damaged, it returns the reason.
func (c *BlobCopy) copy(ctx context.Context, info blob.Info) (reason string, err error) {
	r, err := c.From.Open(ctx, info.Digest)
	if err != nil {
		return unreadable(err)
	}
	defer r.Close()
	id := copiedPartial(info.Digest)
	p, err := c.To.Partial(ctx, id)
	if err != nil {
		return "", err
	}
	w := &copyWriter{c: c, ctx: ctx, p: p, hash: info.Digest.Algorithm().Hash()}
	defer func() {
		err = errors.Join(err, p.Close())
		if err != nil || reason != "" {
			c.addBytes(-w.counted)
		}
	}()
	resumed, err := w.resume(info.Size)
	if err == nil {
		if _, err = r.Seek(resumed, io.SeekStart); err == nil {
			reason, err = w.readFrom(r, info.Size)
		}
	}
	if err != nil {
		return "", err
	}
	if reason == "" && digest.NewDigest(info.Digest.Algorithm(), w.hash) != info.Digest {
		reason = contentChanged
	}
	if reason != "" {
		if err := c.To.Discard(ctx, id); err != nil {
			return "", err
		}
		if resumed > 0 {
			return "", errResumed // a second try decides
		}
		return reason, nil
	}
	if err = p.Sync(); err == nil {
		err = c.To.Commit(ctx, id, info.Digest)
	}
	if err == nil {
		err = c.To.Discard(ctx, id)
	}
	return "", err
}

// A copyWriter writes one blob to a partial.
type copyWriter struct {
	c       *BlobCopy
	ctx     context.Context
	p       blob.Partial
	hash    hash.Hash
	at      int64 // offset after the last byte
	synced  int64 // the same of the last Sync
	counted int64 // bytes in the progress
}

// resume hashes what the partial has of size bytes, and returns its number of bytes.
func (w *copyWriter) resume(size int64) (int64, error) {
	have, err := w.p.Size()
	if err == nil && have > size {
		have, err = 0, w.p.Truncate(0)
	}
	buf := make([]byte, readStep)
	for err == nil && w.at < have {
		some := buf[:min(int64(len(buf)), have-w.at)]
		if err = w.c.Pace(w.ctx, len(some)); err == nil {
			_, err = w.p.ReadAt(some, w.at)
		}
		if errors.Is(err, io.EOF) && w.at+int64(len(some)) == have {
			err = nil
		}
		if err == nil {
			w.add(some)
		}
	}
	w.synced = w.at
	return w.at, err
}

// readFrom appends the rest of size bytes. If r cannot be read or is shorter, it returns the reason.
func (w *copyWriter) readFrom(r io.Reader, size int64) (reason string, err error) {
	buf := make([]byte, readStep)
	for w.at < size {
		some := buf[:min(int64(len(buf)), size-w.at)]
		if err := w.c.Pace(w.ctx, len(some)); err != nil {
			return "", err
		}
		n, err := io.ReadFull(r, some)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return wrongLength(w.at+int64(n), size), nil
		}
		if err != nil {
			return unreadable(err)
		}
		if _, err := w.p.WriteAt(some, w.at); err != nil {
			return "", err
		}
		if w.add(some); w.at-w.synced >= copySync {
			if err := w.p.Sync(); err != nil {
				return "", err
			}
			w.synced = w.at
		}
	}
	return "", nil
}

// add hashes and counts bytes of the partial.
func (w *copyWriter) add(some []byte) {
	_, _ = w.hash.Write(some) // a hash never fails
	w.at += int64(len(some))
	w.counted += int64(len(some))
	w.c.addBytes(int64(len(some)))
}

func (c *BlobCopy) addBytes(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pass.Bytes += n
}

// finish records that the target has a blob, and counts it.
func (c *BlobCopy) finish(info blob.Info, count func(*CopyPass)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.verified[info.Digest] = info.Size
	delete(c.damaged, info.Digest)
	c.pass.Blobs++
	count(&c.pass)
}

// leaveOut records that a blob is not copied; without a reason, it was deleted.
func (c *BlobCopy) leaveOut(info blob.Info, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if reason != "" {
		c.damaged[info.Digest] = damagedFile{info.Modified, reason}
	}
	c.pass.Blobs++
	c.pass.Bytes += info.Size
}

// Missing returns the blobs in service, in order, that the target does not have.
func (c *BlobCopy) Missing(ctx context.Context, db *metadb.DB) (missing []digest.Digest, err error) {
	for after := ""; ; {
		rows, err := metadb.Read(ctx, db.Long(), func(tx *metadb.Tx) ([]metadb.Blob, error) {
			return tx.Blobs(after, page)
		})
		if err != nil || len(rows) == 0 {
			return missing, err
		}
		for _, row := range rows {
			if d := digest.Digest(row.Digest); !c.isVerified(d, row.Size) {
				missing = append(missing, d)
			}
		}
		after = rows[len(rows)-1].Digest
	}
}

func (c *BlobCopy) isVerified(d digest.Digest, size int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	have, ok := c.verified[d]
	return ok && have == size
}
