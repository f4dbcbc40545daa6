package gateway

import (
	"encoding/json"
	"errors"
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

// windowLimit bounds the memory that a compressed body can ask for.
const windowLimit = 8 << 20

const (
	encodingZstd   = "zstd"
	typeJSON       = "application/json"
	typeJSONLines  = "application/x-ndjson"
	typeProblem    = "application/problem+json"
	headerEncoding = "Content-Encoding"
)

var errBodyTooLarge = errors.New("body is too large")

// A codec reads and writes bodies. Its compressors are shared by all requests:
// each holds about a megabyte, which a fleet that polls cannot have each for
// itself. It is safe for concurrent use.
type codec struct {
	compressor *zstd.Encoder
	readers    sync.Pool // of *zstd.Decoder
}

func newCodec() *codec {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(2), zstd.WithWindowSize(256<<10), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(err) // the options are right
	}
	return &codec{compressor: z}
}

// decode reads one JSON value from a body of the given encoding, at most
// limit bytes of it.
func (c *codec) decode(body io.Reader, encoding string, limit int64, v any) error {
	r, done, err := c.decompress(body, encoding)
	if err != nil {
		return err
	}
	defer done()
	limited := &io.LimitedReader{R: r, N: limit + 1}
	d := json.NewDecoder(limited)
	err = d.Decode(v)
	if limited.N <= 0 {
		return errBodyTooLarge
	}
	return err
}

// decompress returns the plain body; the second result ends its use.
func (c *codec) decompress(body io.Reader, encoding string) (io.Reader, func(), error) {
	switch strings.ToLower(encoding) {
	case "", "identity":
		return body, func() {}, nil
	case encodingZstd:
		z, ok := c.readers.Get().(*zstd.Decoder)
		if !ok {
			var err error
			z, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(windowLimit))
			if err != nil {
				return nil, nil, err
			}
		}
		if err := z.Reset(body); err != nil {
			return nil, nil, err
		}
		return z, func() {
			if z.Reset(nil) == nil {
				c.readers.Put(z)
			}
		}, nil
	}
	return nil, nil, fmt.Errorf("Content-Encoding %q is not known", encoding)
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
	for _, v := range r.Header.Values("Accept-Encoding") {
		for _, e := range strings.Split(v, ",") {
			name, _, _ := strings.Cut(strings.TrimSpace(e), ";")
			if strings.EqualFold(name, encodingZstd) {
				return true
			}
		}
	}
	return false
}
