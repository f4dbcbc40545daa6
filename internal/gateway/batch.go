package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"ferry/internal/download"
	"ferry/internal/oci"
	"ferry/internal/wire"
)

// Limits on a batch.
const (
	// BatchLimit is the size in bytes up to which a blob comes in a batch.
	BatchLimit = 256 << 10
	// MaxBatch is how many blobs a batch has at most.
	MaxBatch = download.MaxBatch
	// maxBatchEntry is the largest size, in bytes, of the line before a blob.
	maxBatchEntry = 4 << 10
)

// typeBatch is the type of a stream in which each blob follows its entry.
const typeBatch = "application/vnd.ferry.batch"

// batch answers with the blobs of a batch, each after its entry.
func (s *server) batch(_ context.Context, c caller, q wire.BatchRequest) (stream, error) {
	if len(q.Want) > MaxBatch {
		return stream{}, invalid("a batch is of at most %d blobs", MaxBatch)
	}
	return stream{registry: c.name, contentType: typeBatch, write: func(ctx context.Context, w io.Writer) error {
		for _, want := range q.Want {
			if err := s.sendBatched(ctx, w, c, want); err != nil {
				return err
			}
		}
		return nil
	}}, nil
}

// sendBatched writes one blob after its entry.
func (s *server) sendBatched(ctx context.Context, w io.Writer, c caller, want wire.Want) error {
	lines := json.NewEncoder(w)
	if reason := c.whyDenied(want.Repository); reason != "" {
		return lines.Encode(wire.BatchEntry{Digest: want.Digest, Missing: reason})
	}
	content, info, err := s.Storage.Unlocked().OpenBlob(ctx, want.Repository, want.Digest)
	if e := oci.AsError(err); e != nil && e.Status < 500 {
		return lines.Encode(wire.BatchEntry{Digest: want.Digest, Missing: e.Message})
	}
	if err != nil {
		return err
	}
	defer content.Close()
	if info.Size > BatchLimit {
		return lines.Encode(wire.BatchEntry{Digest: want.Digest, Missing: "the blob is too large for a batch"})
	}
	if err := lines.Encode(wire.BatchEntry{Digest: want.Digest, Size: info.Size}); err != nil {
		return err
	}
	_, err = io.CopyN(w, content, info.Size)
	return err
}

// Batch implements [download.Batcher]. fn need not read all of the content.
func (c *Client) Batch(
	ctx context.Context, want []download.Ref, fn func(i int, size int64, content io.Reader) error,
) error {
	q := wire.BatchRequest{Name: c.name(), Want: wantsOf(want)}
	resp, err := c.stream(ctx, wire.PathBlobs, q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := readBatch(resp.Body, want, fn); err != nil {
		return fmt.Errorf("batch of blobs: %w", err)
	}
	drain(resp.Body)
	return nil
}

func readBatch(body io.Reader, want []download.Ref, fn func(i int, size int64, content io.Reader) error) error {
	in := bufio.NewReaderSize(body, maxBatchEntry)
	for i, w := range want {
		line, err := in.ReadSlice('\n')
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		var e wire.BatchEntry
		if _, err := batchEntries.Unmarshal(bytes.TrimSpace(line), &e); err != nil {
			return err
		}
		if e.Digest != w.Digest || e.Size < 0 || e.Size > BatchLimit {
			return fmt.Errorf("entry %d is of %.80q, of %d bytes, not of %s", i, e.Digest, e.Size, w.Digest)
		}
		if e.Missing != "" {
			err = fn(i, 0, nil)
		} else {
			content := &io.LimitedReader{R: in, N: e.Size}
			if err = fn(i, e.Size, content); err == nil {
				_, err = io.CopyN(io.Discard, in, content.N)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}
