package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Limits on bodies, in bytes, of what is read after decompression.
const (
	maxRequest   = 4 << 20  // a child's request
	maxResponse  = 32 << 20 // a parent's answer, the plan's stream aside
	maxPlanEntry = 16 << 20 // one line of a plan: a manifest in base64 and its frame
)

// compressFrom is the size in bytes from which a body is worth compressing.
const compressFrom = 512

// streamBuffer is how many bytes of a stream are sent at a time.
const streamBuffer = 64 << 10

// windowLimit bounds the memory that a compressed body can ask for.
const windowLimit = 8 << 20

const (
	encodingZstd   = "zstd"
	typeJSON       = "application/json"
	typeJSONLines  = "application/x-ndjson"
	typeProblem    = "application/problem+json"
	headerEncoding = "Content-Encoding"
)

// A codec reads and writes bodies. Its compressors are shared by all requests:
// each holds about a megabyte, which a fleet that polls cannot have each for
// itself. It is safe for concurrent use.
type codec struct {
	compressor *zstd.Encoder
	readers    sync.Pool // of *zstd.Decoder
}

func newCodec() *codec {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(2), zstd.WithWindowSize(256<<10),
		zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(err) // the options are right
	}
	return &codec{compressor: z}
}

// decompress returns the plain content of a body. Closing it, which must happen
// once, closes the body.
func (c *codec) decompress(body io.ReadCloser, encoding string) (io.ReadCloser, error) {
	switch strings.ToLower(encoding) {
	case "", "identity":
		return body, nil
	case encodingZstd:
		z, ok := c.readers.Get().(*zstd.Decoder)
		if !ok {
			var err error
			z, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
				zstd.WithDecoderMaxWindow(windowLimit))
			if err != nil {
				return nil, err
			}
		}
		if err := z.Reset(body); err != nil {
			return nil, err
		}
		return &plainBody{z, body, c}, nil
	}
	return nil, fmt.Errorf("Content-Encoding %q is not known", encoding)
}

// A plainBody is the content of a compressed body.
type plainBody struct {
	io.Reader
	body  io.Closer
	codec *codec
}

// Close implements [io.Closer].
func (b *plainBody) Close() error {
	if z := b.Reader.(*zstd.Decoder); z.Reset(nil) == nil {
		b.codec.readers.Put(z)
	}
	return b.body.Close()
}

// decode reads one JSON value from a plain body. One of more than limit bytes is
// an [http.MaxBytesError].
func decode(body io.Reader, limit int64, v any) error {
	limited := &io.LimitedReader{R: body, N: limit + 1}
	err := json.NewDecoder(limited).Decode(v)
	if limited.N <= 0 {
		return &http.MaxBytesError{Limit: limit}
	}
	return err
}

// encode returns v as JSON, compressed where that is smaller, and its encoding.
func (c *codec) encode(v any) (body []byte, encoding string, err error) {
	body, err = json.Marshal(v)
	if err != nil || len(body) < compressFrom {
		return body, "", err
	}
	if small := c.compressor.EncodeAll(body, make([]byte, 0, len(body))); len(small) < len(body) {
		return small, encodingZstd, nil
	}
	return body, "", nil
}

// acceptsZstd reports whether the sender of r can read zstd.
func acceptsZstd(r *http.Request) bool {
	accepted := strings.Join(r.Header.Values("Accept-Encoding"), ",")
	return strings.Contains(strings.ToLower(accepted), encodingZstd)
}
