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

// ErrBusy is returned for a transfer that somebody else has open.
var ErrBusy = errors.New("the transfer is open elsewhere")

// A Transfer is a blob on its way in, in ranges, in any order. It survives a
// close with everything that was written, and a crash with all but the last
// [MaxLoss] bytes. Its methods are safe for concurrent use, except that
// nothing may follow Commit but Reset and Close, which must be called.
type Transfer struct {
	s       *Storage
	digest  digest.Digest
	size    int64
	release func()
	partial blob.Partial

	// The storage's transfers.mu guards what follows.
	row     metadb.Transfer // as it is in the database
	have    ranges          // written
	unsaved int64           // bytes written since the row was
	hash    hash.Hash       // of the first hashed bytes
	hashed  int64
}

// Transfer opens the transfer of the blob d, of size bytes, where it was
// left, or begins it. It returns [ErrBusy] while it is open elsewhere.
func (s *Storage) Transfer(ctx context.Context, d digest.Digest, size int64) (*Transfer, error) {
	if _, err := oci.ParseDigest(string(d)); err != nil {
		return nil, err
	}
	if size < 0 {
		return nil, oci.ErrSizeInvalid.With("blob %s has a negative size", d)
	}
	release, ok := s.partials.tryLock(transferPartial(d))
	if !ok {
		return nil, ErrBusy
	}
	t := &Transfer{s: s, digest: d, size: size, release: release}
	if err := t.open(ctx); err != nil {
		t.Close()
		return nil, fmt.Errorf("open transfer %s: %w", d, t.s.mapDiskFull(err))
	}
	return t, nil
}

// transferPartial is what the blob store calls a transfer's content.
func transferPartial(d digest.Digest) string {
	return "transfer-" + string(d.Algorithm()) + "-" + d.Encoded()
}

// transferOf is the reverse of transferPartial.
func transferOf(id string) (digest.Digest, bool) {
	name, ok := strings.CutPrefix(id, "transfer-")
	if !ok {
		return "", false
	}
	d, err := oci.ParseDigest(strings.Replace(name, "-", ":", 1))
	return d, err == nil
}

func (t *Transfer) open(ctx context.Context) (err error) {
	t.row, err = metadb.Read(ctx, t.s.db,
		func(tx *metadb.Tx) (metadb.Transfer, error) { return tx.Transfer(string(t.digest)) })
	known := err == nil
	if err != nil && !errors.Is(err, metadb.ErrNotFound) {
		return err
	}
	// A blob that no row knows any more is as good as what was received.
	t.partial, err = t.s.recoverPartial(ctx, transferPartial(t.digest), t.digest, cmp.Or(t.row.Size, t.size))
	if err != nil {
		return err
	}
	t.s.transfers.mu.Lock()
	defer t.s.transfers.mu.Unlock()
	if !known { // a row is written once there is something to vouch for
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

// adopt takes a whole file for received. Its digest is taken before the commit, as always.
func (t *Transfer) adopt() error {
	onDisk, err := t.partial.Size()
	if err != nil || onDisk == 0 || onDisk != t.size {
		return err
	}
	t.have, t.unsaved = ranges{{0, t.size}}, t.size
	t.s.transfers.unsaved += t.size
	return nil
}

// restore takes up what the row and the file hold, if they fit each other.
func (t *Transfer) restore() error {
	if err := json.Unmarshal([]byte(t.row.Ranges), &t.have); err != nil {
		return err
	}
	if err := t.have.check(t.size); err != nil {
		return err
	}
	onDisk, err := t.partial.Size()
	if err != nil {
		return err
	}
	if n := len(t.have); t.row.Size != t.size || n > 0 && t.have[n-1].End > onDisk || t.row.Hashed > t.have.prefix() {
		return errors.New("its row and its file do not fit")
	}
	t.hash, t.hashed = t.digest.Algorithm().Hash(), t.row.Hashed
	if setState(t.hash, t.row.HashState) != nil {
		// Another version of the program wrote the state. To read the content
		// again is cheaper than to fetch it.
		t.hash.Reset()
		t.hashed = 0
	}
	return nil
}

// Size is the blob's size in bytes.
func (t *Transfer) Size() int64 { return t.size }

// Have is how many bytes of it are here.
func (t *Transfer) Have() int64 {
	t.s.transfers.mu.Lock()
	defer t.s.transfers.mu.Unlock()
	return t.have.total()
}

// Missing returns the ranges that are not here, in order.
func (t *Transfer) Missing() []Range {
	t.s.transfers.mu.Lock()
	defer t.s.transfers.mu.Unlock()
	return t.have.missing(Range{0, t.size})
}

// Write writes p at offset, makes what came before durable when it must, and
// returns how many bytes of p were new. Bytes that are here already stay as
// they are: their digest may be taken. The context's end does not stop it:
// what came over a link was paid for.
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
	for _, gap := range t.have.missing(Range{offset, offset + int64(len(p))}) {
		if _, err := t.partial.WriteAt(p[gap.Start-offset:gap.End-offset], gap.Start); err != nil {
			return fresh, t.s.mapDiskFull(fmt.Errorf("write transfer %s: %w", t.digest, err))
		}
		t.have = t.have.add(gap)
		t.unsaved += gap.Len()
		all.unsaved += gap.Len()
		fresh += gap.Len()
	}
	return fresh, nil
}

// Commit verifies the content and makes it a blob of the repositories. The
// error is [oci.ErrDigestInvalid] when the content is not what its digest
// says: call [Transfer.Reset] then, and fetch it again.
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
	return t.s.commitPartials(ctx, []verified{{transferPartial(t.digest), t.digest, t.size, repositories}},
		func(tx *metadb.Tx) error {
			return tx.DeleteTransfer(string(t.digest))
		})
}

// seal makes the content durable, so that it is of no interest to other
// transfers' saves, and is hashed without holding them up. A small blob that
// has no row gets none for the moment that this takes.
func (t *Transfer) seal(ctx context.Context) error {
	all := &t.s.transfers
	all.mu.Lock()
	defer all.mu.Unlock()
	if t.row.Size > 0 || t.size > MaxLoss {
		return all.save(ctx, t.s)
	}
	if err := t.partial.Sync(); err != nil {
		return t.s.mapDiskFull(fmt.Errorf("sync transfer %s: %w", t.digest, err))
	}
	all.unsaved -= t.unsaved
	t.unsaved = 0
	return nil
}

// unseal lets a Close write the row, where a commit came to nothing.
func (t *Transfer) unseal() {
	all := &t.s.transfers
	all.mu.Lock()
	defer all.mu.Unlock()
	if t.row.Size == 0 {
		t.unsaved = t.have.total()
		all.unsaved += t.unsaved
	}
}

// hashTo brings the digest state up to the first end bytes.
func (t *Transfer) hashTo(end int64) error {
	if _, err := io.Copy(t.hash, io.NewSectionReader(t.partial, t.hashed, end-t.hashed)); err != nil {
		return fmt.Errorf("read transfer %s: %w", t.digest, err)
	}
	t.hashed = end
	return nil
}

// Reset drops everything that was written.
func (t *Transfer) Reset(ctx context.Context) error {
	t.s.transfers.mu.Lock()
	defer t.s.transfers.mu.Unlock()
	return t.reset(ctx)
}

// reset lets go of the row before the content, so that after a crash between
// the two no row vouches for bytes that are gone.
func (t *Transfer) reset(ctx context.Context) error {
	t.s.transfers.unsaved -= t.unsaved
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

// next is the row that says what is on disk now.
func (t *Transfer) next() metadb.Transfer {
	row := t.row
	row.Size, row.Ranges, row.Hashed, row.HashState, row.UpdatedAt = t.size, t.have.text(), t.hashed, stateOf(t.hash), t.s.Uptime()
	return row
}

// Close makes what was written durable and releases the transfer. A second
// call does nothing.
func (t *Transfer) Close() error {
	all := &t.s.transfers
	all.mu.Lock()
	defer all.mu.Unlock()
	if t.release == nil {
		return nil
	}
	defer func() { t.release(); t.release = nil }()
	if t.partial == nil {
		return nil
	}
	err := all.save(context.Background(), t.s)
	delete(all.open, t)
	all.unsaved -= t.unsaved
	return errors.Join(err, t.partial.Close())
}
