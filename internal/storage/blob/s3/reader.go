package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"ferry/internal/retry"
	"ferry/internal/storage/blob"
)

// A read that is cut is tried again readTries times in a row, with growing pauses.
const (
	readTries  = 6
	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
)

// The number of bytes that a request for a range asks for: the first one after a seek for
// firstWindow, each further one for twice as many, up to lastWindow. A client that wants a range
// reads less than the rest, and a connection can only be used again if all of an answer is read.
// Who reads an object from its first byte mostly reads all of it, and a store that keeps files
// spends a third of the processor time on a whole object: so that is one request without a range.
const (
	firstWindow = 1 << 20
	lastWindow  = 64 << 20
)

// A reader reads size bytes of an object from a start. An answer that is cut is continued at
// its byte, if the object is still the same. It has one user at a time.
type reader struct {
	objects *objects
	whole   bool            // size is the size of the object
	ctx     context.Context // of the user who opened it
	key     string
	etag    string
	start   int64 // in the object
	size    int64
	offset  int64 // of the next byte, from start
	body    io.ReadCloser
	bodyAt  int64 // offset of the body's next byte
	bodyEnd int64 // offset after its last byte
	window  int64 // of the next request
}

func (o *objects) reader(ctx context.Context, key, etag string, start, size int64) *reader {
	return &reader{objects: o, ctx: ctx, key: key, etag: etag, start: start, size: size}
}

// Seek implements [io.Seeker]. It makes no request.
func (r *reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.offset
	case io.SeekEnd:
		offset += r.size
	}
	if offset < 0 {
		return 0, errors.New("seek before the first byte")
	}
	r.offset = offset
	return offset, nil
}

// Read implements [io.Reader].
func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if r.offset >= r.size {
		return 0, io.EOF
	}
	pauses := retry.NewBackoff(firstPause, lastPause, 2)
	for try := 0; ; try++ {
		n, err := r.read(p)
		if n > 0 {
			return n, nil // an error comes again, if it is one
		}
		if err == nil {
			continue
		}
		r.close()
		if errors.Is(err, blob.ErrNotExist) || errors.Is(err, errCondition) || r.ctx.Err() != nil || try == readTries {
			return 0, fmt.Errorf("read %s: %w", r.key, err)
		}
		if err := retry.Sleep(r.ctx, pauses.NextBackOff(), nil); err != nil {
			return 0, fmt.Errorf("read %s: %w", r.key, err)
		}
	}
}

// read reads from the body, which it opens first if necessary. A body that ends too early is an
// error.
func (r *reader) read(p []byte) (int, error) {
	if r.bodyAt != r.offset {
		r.close()
		r.window = firstWindow
	}
	if r.body == nil || r.bodyAt == r.bodyEnd {
		r.close()
		if err := r.open(); err != nil {
			return 0, err
		}
	}
	if rest := r.bodyEnd - r.offset; int64(len(p)) > rest {
		p = p[:rest]
	}
	n, err := r.body.Read(p)
	r.offset += int64(n)
	r.bodyAt += int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && n == 0 {
		err = fmt.Errorf("%w: %w", blob.ErrUnavailable, err)
	}
	return n, err
}

// open requests the next bytes.
func (r *reader) open() (err error) {
	length, asked := r.size, everything
	if !r.whole || r.offset > 0 {
		length = min(max(r.window, firstWindow), r.size-r.offset)
		asked = blob.Range{Start: r.start + r.offset, End: r.start + r.offset + length}
	}
	if r.body, err = r.objects.getRange(r.ctx, r.key, r.etag, asked); err != nil {
		return err
	}
	r.bodyAt, r.bodyEnd = r.offset, r.offset+length
	r.window = min(2*length, lastWindow)
	return nil
}

// Close implements [io.Closer].
func (r *reader) Close() error {
	r.close()
	return nil
}

func (r *reader) close() {
	if r.body != nil {
		_ = r.body.Close() // its content was read, or is not wanted
		r.body = nil
	}
}
