package download

import (
	"context"
	"fmt"
	"io"
	"time"

	"ferry/internal/retry"
)

// A stream writes the response to one request for a segment to disk.
type stream struct {
	*worker
	*segment
	body     io.Reader
	buffered int   // bytes in buf that are not written yet
	offset   int64 // in the blob, of the buffered or next bytes
	received int64
	newBytes int64 // bytes received that were not on disk before
	watchdog *retry.Watchdog
}

// copyUntil copies the body to disk, up to the offset end of the blob.
func (s *stream) copyUntil(ctx context.Context, end int64) error {
	if s.buf == nil {
		s.buf = make([]byte, bufferSize)
	}
	for s.offset < end {
		var err error
		if s.buffered == 0 {
			s.buffered, err = s.body.Read(s.buf[:min(int64(len(s.buf)), end-s.offset)])
		}
		if s.buffered > 0 {
			if err := s.flush(ctx); err != nil {
				return err
			}
		}
		if err != nil && s.offset < end {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("fetch %s: byte %d of %d: %w", s.Digest, s.offset, s.Size, err)
		}
	}
	return nil
}

// flush writes the buffered bytes.
func (s *stream) flush(ctx context.Context) error {
	n := int64(s.buffered)
	s.watchdog.Reset(s.stallTimeout)
	newBytes, err := s.transfer.Write(ctx, s.buf[:n], s.offset)
	s.newBytes += max(newBytes, 0)
	s.countBytes(n, newBytes)
	if err != nil {
		return s.local(ctx, err)
	}
	s.offset += n
	s.buffered = 0
	return nil
}

// countBytes counts n received bytes, of which newBytes were not on disk before. The first
// bytes of a response show that the link is up.
func (s *stream) countBytes(n, newBytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.received == 0 && s.link.succeeded(time.Now()) {
		s.wakeWorkers()
	}
	s.received += n
	s.countReceived(n)
	s.countDone(s.Blob, newBytes)
}

// sendsMore reports whether the source sends more bytes than the range has, because it
// ignores ranges. If it does not, the body is at its end and the connection can be reused.
func (s *stream) sendsMore() bool {
	n, _ := s.body.Read(s.buf[:1])
	s.buffered = n
	return n > 0
}
