package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

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
	// maxBatchEntry is how long the line before a blob is at most.
	maxBatchEntry = 4 << 10
)

// typeBatch is the type of a stream in which each blob follows its entry.
const typeBatch = "application/vnd.ferry.batch"

// serveBatch streams the blobs of a batch, each behind its entry.
func (s *server) serveBatch(w http.ResponseWriter, r *http.Request) {
	var q wire.BatchRequest
	c, err := s.read(w, r, &q)
	if err == nil && len(q.Want) > MaxBatch {
		err = problem(http.StatusBadRequest, "INVALID", fmt.Sprintf("a batch is of at most %d blobs", MaxBatch))
	}
	var end func()
	if err == nil {
		end, err = s.admission.stream()
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer end()
	w.Header().Set("Content-Type", typeBatch)
	for _, want := range q.Want {
		if err := s.sendBatched(r.Context(), w, c, want); err != nil {
			s.log.Debug("batch was cut off", "registry", c.name, "err", err)
			panic(http.ErrAbortHandler) // the child must not take it for whole
		}
	}
}

// sendBatched writes one blob behind its entry.
func (s *server) sendBatched(ctx context.Context, w io.Writer, c caller, want wire.Want) error {
	lines := json.NewEncoder(w)
	if reason := c.barred(want.Repository); reason != "" {
		return lines.Encode(wire.BatchEntry{Digest: want.Digest, Missing: reason})
	}
	content, info, err := s.storage.OpenBlob(ctx, want.Repository, want.Digest)
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
func (c *Client) Batch(ctx context.Context, want []download.Ref, fn func(i int, size int64, content io.Reader) error) error {
	resp, err := c.post(ctx, wire.PathBlobs, wire.BatchRequest{Name: c.connection.Name, Want: wants(want)}, stall)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := readBatch(resp.Body, want, fn); err != nil {
		return fmt.Errorf("batch of blobs: %w", err)
	}
	io.Copy(io.Discard, io.LimitReader(resp.Body, 1)) // so that the connection is kept
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
		if err := json.Unmarshal(bytes.TrimSpace(line), &e); err != nil {
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
