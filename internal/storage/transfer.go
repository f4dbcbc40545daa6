package storage

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage/blob"
)

// ErrBusy is returned for a transfer that is already open.
var ErrBusy = errors.New("the transfer is open elsewhere")

// A Range is the bytes from Start up to End, without End.
type Range = blob.Range

// A Transfer is a blob that is being fetched in ranges, in any order. It keeps everything that
// was written when it is closed, and all but the last [MaxLoss] bytes after a crash. Its
// methods are safe for concurrent use, except that after Commit only Reset and Close may be
// called. Close must be called.
type Transfer struct {
	s       *Storage
	digest  digest.Digest
	size    int64
	held    *held // nil once it is closed
	partial blob.Partial

	// The storage's transfers.mu guards the following fields.
	row     metadb.Transfer // as in the database
	have    blob.Ranges     // written
	unsaved int64           // bytes written after the row
	failed  error           // why its file could not be made durable; no more is written to it
	hash    hash.Hash       // of the first hashed bytes
	hashed  int64
}

// Transfer opens the transfer of the blob d, of size bytes, with all that it has received, or
// creates it. It returns [ErrBusy] if the transfer is already open.
func (s *Storage) Transfer(ctx context.Context, d digest.Digest, size int64) (*Transfer, error) {
	if _, err := oci.ParseDigest(string(d)); err != nil {
		return nil, err
	}
	if size < 0 {
		return nil, oci.ErrSizeInvalid.With("blob %s has a negative size", d)
	}
	held, err := s.partials.tryAcquire(ctx, transferPartial(d))
	if held == nil {
		return nil, cmp.Or(err, ErrBusy)
	}
	t := &Transfer{s: s, digest: d, size: size, held: held}
	if err := t.open(ctx); err != nil {
		t.Close()
		return nil, fmt.Errorf("open transfer %s: %w", d, t.s.mapDiskFull(err))
	}
	return t, nil
}

// transferPartial returns the name of a transfer's partial in the blob store.
func transferPartial(d digest.Digest) string {
	return "transfer-" + string(d.Algorithm()) + "-" + d.Encoded()
}

// transferOf is the inverse of transferPartial.
func transferOf(id string) (digest.Digest, bool) {
	name, ok := strings.CutPrefix(id, "transfer-")
	if !ok {
		return "", false
	}
	d, err := oci.ParseDigest(strings.Replace(name, "-", ":", 1))
	return d, err == nil
}

func (t *Transfer) open(ctx context.Context) (err error) {
	t.row, err = metadb.Lookup(ctx, t.s.db,
		func(tx *metadb.Tx) (metadb.Transfer, error) { return tx.Transfer(string(t.digest)) })
	known := err == nil
	if err != nil && !errors.Is(err, metadb.ErrNotFound) {
		return err
	}
	// A blob without a row counts as received.
	t.partial, err = t.s.recoverPartial(ctx, transferPartial(t.digest), t.digest, cmp.Or(t.row.Size, t.size))
	if err != nil {
		return err
	}
	t.s.transfers.mu.Lock()
	defer t.s.transfers.mu.Unlock()
	if !known { // the row is written with the first received bytes
		t.row = metadb.Transfer{Digest: string(t.digest)}
		t.hash = t.digest.Algorithm().Hash()
		if err := t.adopt(); err != nil {
			return err
		}
	} else if err := t.restore(); err != nil {
		t.s.log.Warn("transfer starts again", "digest", t.digest, "err", err)
		if err := t.reset(ctx); err != nil {
			return err
		}
	}
	t.s.transfers.open[t] = true
	return nil
}

// adopt takes a complete file as received. Its digest is verified before the commit, as always.
func (t *Transfer) adopt() error {
	onDisk, err := t.partial.Size()
	if err != nil || onDisk == 0 || onDisk != t.size {
		return err
	}
	t.have, t.unsaved = blob.Ranges{{End: t.size}}, t.size
	t.s.transfers.unsaved += t.size
	return nil
}

// restore continues with the row and the file, if they are consistent.
func (t *Transfer) restore() error {
	if err := json.Unmarshal([]byte(t.row.Ranges), &t.have); err != nil {
		return err
	}
	if err := t.have.Check(t.size); err != nil {
		return err
	}
	onDisk, err := t.partial.Size()
	if err != nil {
		return err
	}
	if n := len(t.have); t.row.Size != t.size || n > 0 && t.have[n-1].End > onDisk || t.row.Hashed > t.have.Prefix() {
		return errors.New("its row and its file do not fit")
	}
	t.hash, t.hashed = t.digest.Algorithm().Hash(), t.row.Hashed
	if setState(t.hash, t.row.HashState) != nil {
		// Another version of the program wrote the state. To read the content again is
		// cheaper than to fetch it again.
		t.hash.Reset()
		t.hashed = 0
	}
	return nil
}

// Size returns the size of the blob in bytes.
func (t *Transfer) Size() int64 { return t.size }

// Have returns the number of bytes that are here.
func (t *Transfer) Have() int64 {
	t.s.transfers.mu.Lock()
	defer t.s.transfers.mu.Unlock()
	return t.have.Total()
}

// Missing returns the ranges that are not here, in order.
func (t *Transfer) Missing() []Range {
	t.s.transfers.mu.Lock()
	defer t.s.transfers.mu.Unlock()
	return t.have.Missing(Range{End: t.size})
}

// Write writes p at offset, and returns how many bytes of p were new. If too many written bytes
// are not durable yet, it makes them durable first. It does not overwrite bytes that are here,
// because they may be hashed already. The end of the context does not interrupt it, because
// bytes that came over a link have a cost.
func (t *Transfer) Write(ctx context.Context, p []byte, offset int64) (fresh int64, err error) {
	if offset < 0 || offset+int64(len(p)) > t.size {
		return 0, oci.ErrSizeInvalid.With("blob %s has %d bytes, the source sends more", t.digest, t.size)
	}
	if err := t.s.checkReserve(); err != nil {
		return 0, fmt.Errorf("write transfer %s: %w", t.digest, err)
	}
	all := &t.s.transfers
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.due(int64(len(p))) {
		if err := all.save(ctx, t.s); err != nil {
			return 0, err
		}
	}
	if t.failed != nil {
		return 0, t.failed
	}
	for _, gap := range t.have.Missing(Range{Start: offset, End: offset + int64(len(p))}) {
		if _, err := t.partial.WriteAt(p[gap.Start-offset:gap.End-offset], gap.Start); err != nil {
			return fresh, t.s.mapDiskFull(fmt.Errorf("write transfer %s: %w", t.digest, err))
		}
		t.have = t.have.Add(gap)
		t.unsaved += gap.Len()
		all.unsaved += gap.Len()
		fresh += gap.Len()
	}
	return fresh, nil
}

// Commit verifies the content and makes it a blob of the repositories. The error is
// [oci.ErrDigestInvalid] if the content does not match its digest: then call [Transfer.Reset],
// and fetch it again.
func (t *Transfer) Commit(ctx context.Context, repositories ...string) (err error) {
	if have := t.Have(); have != t.size {
		return fmt.Errorf("commit transfer %s: %d of %d bytes are here", t.digest, have, t.size)
	}
	if err := t.seal(ctx); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			t.unseal()
		}
	}()
	for t.hashed < t.size {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("commit transfer %s: %w", t.digest, context.Cause(ctx))
		}
		if err := t.hashTo(min(t.size, t.hashed+hashStep)); err != nil {
			return err
		}
	}
	if got := digest.NewDigest(t.digest.Algorithm(), t.hash); got != t.digest {
		return oci.ErrDigestInvalid.With("content has digest %s, not %s", got, t.digest)
	}
	return t.s.commitBlobs(ctx, []syncedPartial{{transferPartial(t.digest), t.digest, t.size, repositories}},
		t.held.confirmed(func(tx *metadb.Tx) error { return tx.DeleteTransfer(string(t.digest)) }))
}

// seal makes the content durable, so that other transfers' saves skip it, and it can be hashed
// without blocking them. A small blob without a row needs none for that short time.
func (t *Transfer) seal(ctx context.Context) error {
	all := &t.s.transfers
	all.mu.Lock()
	defer all.mu.Unlock()
	if t.row.Size > 0 || t.size > MaxLoss {
		return cmp.Or(all.save(ctx, t.s), t.failed)
	}
	if err := t.partial.Sync(); err != nil {
		return t.s.mapDiskFull(fmt.Errorf("sync transfer %s: %w", t.digest, err))
	}
	all.unsaved -= t.unsaved
	t.unsaved = 0
	return nil
}

// unseal lets Close write the row, if the commit failed.
func (t *Transfer) unseal() {
	all := &t.s.transfers
	all.mu.Lock()
	defer all.mu.Unlock()
	if t.row.Size == 0 && t.failed == nil {
		t.unsaved = t.have.Total()
		all.unsaved += t.unsaved
	}
}

// hashTo hashes the content up to end.
func (t *Transfer) hashTo(end int64) error {
	if _, err := io.Copy(t.hash, io.NewSectionReader(t.partial, t.hashed, end-t.hashed)); err != nil {
		return fmt.Errorf("read transfer %s: %w", t.digest, err)
	}
	t.hashed = end
	return nil
}

// Reset deletes everything that was written.
func (t *Transfer) Reset(ctx context.Context) error {
	t.s.transfers.mu.Lock()
	defer t.s.transfers.mu.Unlock()
	return t.reset(ctx)
}

// reset deletes the row before the content, so that no crash leaves a row for bytes that do not
// exist.
func (t *Transfer) reset(ctx context.Context) error {
	t.s.transfers.unsaved -= t.unsaved
	t.failed = nil
	t.have, t.unsaved, t.hashed, t.hash = nil, 0, 0, t.digest.Algorithm().Hash()
	row := t.next()
	err := t.s.db.Update(context.WithoutCancel(ctx), func(tx *metadb.Tx) error { return tx.PutTransfer(row) })
	if err != nil {
		return t.s.mapDiskFull(err)
	}
	t.row = row
	if err := t.partial.Truncate(0); err != nil {
		return fmt.Errorf("reset transfer %s: %w", t.digest, err)
	}
	return nil
}

// next returns the row for the bytes that are on disk now.
func (t *Transfer) next() metadb.Transfer {
	row := t.row
	row.Size, row.Ranges, row.UpdatedAt = t.size, t.have.Text(), t.s.Uptime()
	row.Hashed, row.HashState = t.hashed, stateOf(t.hash)
	return row
}

// Close makes everything that was written durable, and releases the transfer. It may be called
// more than once.
func (t *Transfer) Close() error {
	all := &t.s.transfers
	all.mu.Lock()
	defer all.mu.Unlock()
	if t.held == nil {
		return nil
	}
	defer func() { t.held.release(); t.held = nil }()
	if t.partial == nil {
		return nil
	}
	err := all.save(context.Background(), t.s)
	delete(all.open, t)
	all.unsaved -= t.unsaved
	return errors.Join(err, t.partial.Close())
}
