package download

import (
	"context"
	"fmt"
	"io"
	"time"

	"ferry/internal/retry"
)

// A stream is the answer to one request for a segment.
type stream struct {
	*worker
	*segment
	body     io.Reader
	held     int   // bytes in buf that are not written
	at       int64 // where they belong
	received int64
	fresh    int64 // of these, that were not here: a source without ranges begins anew
	watchdog *retry.Watchdog
}

// until writes what comes, up to the byte end of the blob.
func (s *stream) until(ctx context.Context, end int64) error {
	if s.buf == nil {
		s.buf = make([]byte, bufferSize)
	}
	for s.at < end {
		var err error
		if s.held == 0 {
			s.held, err = s.body.Read(s.buf[:min(int64(len(s.buf)), end-s.at)])
		}
		if s.held > 0 {
			if err := s.write(ctx); err != nil {
				return err
			}
		}
		if err != nil && s.at < end {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("fetch %s: byte %d of %d: %w", s.Digest, s.at, s.Size, err)
		}
	}
	return nil
}

func (s *stream) write(ctx context.Context) error {
	n := int64(s.held)
	s.watchdog.Reset(s.stall)
	fresh, err := s.transfer.Write(ctx, s.buf[:n], s.at)
	s.fresh += max(fresh, 0)
	s.count(n, fresh)
	if err != nil {
		return Local(err)
	}
	s.at += n
	s.held = 0
	return nil
}

// count notes that n bytes came, of which fresh were not here.
func (s *stream) count(n, fresh int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.received == 0 && s.link.good(time.Now()) {
		s.wake()
	}
	s.received += n
	s.Downloader.receive(n)
	s.got(s.Blob, fresh)
}

// more reports whether the source sends more than it was asked for: it ignores
// ranges. If it does not, the connection can be used again.
func (s *stream) more() bool {
	n, _ := s.body.Read(s.buf[:1])
	s.held = n
	return n > 0
}
