package storage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/storage/blob"
)

// CopiedPartials are the uploads and transfers that had not ended when their instance was stopped.
type CopiedPartials struct {
	Copied int // with all bytes that were durable
	// Ended is the number of those without these bytes: a client or a sync begins them again.
	Ended int
}

// A durablePartial is a partial with a row.
type durablePartial struct {
	id        string
	have      blob.Ranges
	hashed    int64  // bytes
	state     []byte // of the hash of these bytes
	algorithm digest.Algorithm
}

// CopyPartials copies the content of all uploads and transfers of db, whose instance does not run, and
// deletes all other partials of the target.
func (c *BlobCopy) CopyPartials(ctx context.Context, db *metadb.DB) (n CopiedPartials, err error) {
	known, err := metadb.Read(ctx, db.Long(), partialsOf)
	if err != nil {
		return n, err
	}
	there := map[string]int64{}
	err = c.From.WalkPartials(ctx, func(id string, size int64) error { there[id] = size; return nil })
	if err != nil {
		return n, err
	}
	copied := map[string]bool{}
	for _, p := range known {
		if end := len(p.have); end > 0 && there[p.id] >= p.have[end-1].End {
			if copied[p.id], err = c.copyPartial(ctx, p); err != nil {
				return n, fmt.Errorf("copy partial %s: %w", p.id, err)
			}
		}
		switch {
		case copied[p.id]:
			n.Copied++
		case len(p.have) > 0:
			n.Ended++
		}
	}
	var others []string
	err = c.To.WalkPartials(ctx, func(id string, _ int64) error {
		if !copied[id] {
			others = append(others, id)
		}
		return nil
	})
	for _, id := range others {
		if err == nil {
			err = c.To.Discard(ctx, id)
		}
	}
	return n, err
}

// partialsOf returns the partials of all uploads and transfers. One whose row is malformed has nothing.
func partialsOf(tx *metadb.Tx) ([]durablePartial, error) {
	uploads, err := tx.StaleUploads(math.MaxInt64, "", metadb.NoLimit)
	if err != nil {
		return nil, err
	}
	transfers, err := tx.Transfers()
	if err != nil {
		return nil, err
	}
	all := convert(uploads, func(row metadb.Upload) durablePartial {
		return durablePartial{
			id: uploadPartial(row.ID), have: blob.Ranges{}.Add(Range{End: row.Hashed}),
			hashed: row.Hashed, state: row.HashState, algorithm: digest.SHA256,
		}
	})
	return append(all, convert(transfers, func(row metadb.Transfer) durablePartial {
		d := digest.Digest(row.Digest)
		p := durablePartial{
			id: transferPartial(d), hashed: row.Hashed, state: row.HashState, algorithm: d.Algorithm(),
		}
		if json.Unmarshal([]byte(row.Ranges), &p.have) != nil || p.have.Check(row.Size) != nil ||
			p.hashed > p.have.Prefix() {
			p.have = nil
		}
		return p
	})...), nil
}

// copyPartial copies a partial, and reports whether the bytes that were hashed before have the same hash.
func (c *BlobCopy) copyPartial(ctx context.Context, of durablePartial) (same bool, err error) {
	if err := c.To.Discard(ctx, of.id); err != nil {
		return false, err
	}
	from, err := c.From.Partial(ctx, of.id)
	if err != nil {
		return false, err
	}
	defer from.Close()
	to, err := c.To.Partial(ctx, of.id)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	got := of.algorithm.Hash()
	for _, r := range of.have {
		hashed := min(max(of.hashed, r.Start), r.End)
		for _, part := range []struct {
			Range
			also io.Writer
		}{{Range{Start: r.Start, End: hashed}, got}, {Range{Start: hashed, End: r.End}, io.Discard}} {
			err := c.copyRange(ctx, io.MultiWriter(io.NewOffsetWriter(to, part.Start), part.also), from, part.Range)
			if err != nil {
				return false, err
			}
		}
	}
	return of.isHash(got), to.Sync()
}

func (c *BlobCopy) copyRange(ctx context.Context, to io.Writer, from io.ReaderAt, r Range) error {
	buf := make([]byte, readStep)
	for at := r.Start; at < r.End; {
		some := buf[:min(int64(len(buf)), r.End-at)]
		if err := c.Pace(ctx, len(some)); err != nil {
			return err
		}
		if n, err := from.ReadAt(some, at); n < len(some) {
			return err
		}
		if _, err := to.Write(some); err != nil {
			return err
		}
		at += int64(len(some))
	}
	return nil
}

// isHash reports whether got has hashed the bytes of the saved state. A state of another version of the
// program proves nothing; then the bytes are hashed again before they are used.
func (of durablePartial) isHash(got hash.Hash) bool {
	want := of.algorithm.Hash()
	return setState(want, of.state) != nil || bytes.Equal(got.Sum(nil), want.Sum(nil))
}
