package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"

	"ferry/internal/jsonlimit"
	"ferry/internal/wire"
)

// Limits on bodies, in bytes after decompression.
const (
	maxRequest   = 4 << 20 // a child's request
	maxResponse  = 8 << 20 // a parent's answer, except the stream of a plan
	maxPlanEntry = 7 << 20 // one line of a plan: a manifest in base64, with its JSON
)

// Limits on the memory that the values of a body take, in bytes, estimated by
// package jsonlimit. A text of three bytes can become a value of several hundred.
const (
	maxRequestValues   = 8 << 20
	maxResponseValues  = 12 << 20
	maxPlanEntryValues = 7 << 20
)

// A desired state takes at most this share of an answer. The listings need the rest.
const (
	maxDesired       = maxResponse / 4 * 3
	maxDesiredValues = maxResponseValues / 4 * 3
)

var desiredStates = jsonlimit.New[wire.Desired](math.MaxInt)

// A DesiredSize is the size of a desired state, or of a part of one.
type DesiredSize struct {
	Text   int // bytes of its JSON
	Memory int // bytes that its values take, estimated
}

// SizeOf returns the size of a desired state.
func SizeOf(d *wire.Desired) (size DesiredSize, err error) {
	text, err := json.Marshal(d)
	if err != nil {
		return size, err
	}
	size.Text = len(text)
	size.Memory, err = desiredStates.Measure(text)
	return size, err
}

// Plus returns the size of two parts together.
func (s DesiredSize) Plus(other DesiredSize) DesiredSize {
	return DesiredSize{s.Text + other.Text, s.Memory + other.Memory}
}

// Minus returns the size without a part.
func (s DesiredSize) Minus(part DesiredSize) DesiredSize {
	return DesiredSize{s.Text - part.Text, s.Memory - part.Memory}
}

// Fits reports whether a child certainly accepts a desired state of the size in an answer.
func (s DesiredSize) Fits() bool { return s.Text <= maxDesired && s.Memory <= maxDesiredValues }

// compressFrom is the size in bytes from which a body is worth compressing.
const compressFrom = 512

// streamBuffer is how many bytes of a stream are sent at a time.
const streamBuffer = 64 << 10

// windowLimit bounds the memory, in bytes, that a compressed stream can ask for.
const windowLimit = 1 << 20

const (
	encodingZstd   = "zstd"
	typeJSON       = "application/json"
	typeJSONLines  = "application/x-ndjson"
	typeProblem    = "application/problem+json"
	headerEncoding = "Content-Encoding"
)

// A codec compresses and decompresses bodies. All requests share its compressors,
// because each takes about 1 MiB, too much for each child of a large fleet. It is
// safe for concurrent use.
type codec struct {
	compressor   *zstd.Encoder
	decompressor *zstd.Decoder // of whole bodies
	readers      sync.Pool     // of *zstd.Decoder, of streams
}

// newCodec returns a codec for bodies of at most limit bytes, except streams.
func newCodec(limit int64) *codec {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(2), zstd.WithWindowSize(256<<10),
		zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(err) // the options are valid
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(uint64(limit)), zstd.WithDecoderMaxMemory(uint64(limit)))
	if err != nil {
		panic(err)
	}
	return &codec{compressor: z, decompressor: d}
}

// plain returns the decompressed content of a body. The error is
// [jsonlimit.ErrTooLarge] if the content exceeds the codec's limit.
func (c *codec) plain(body []byte, encoding string) ([]byte, error) {
	switch strings.ToLower(encoding) {
	case "", "identity":
		return body, nil
	case encodingZstd:
		text, err := c.decompressor.DecodeAll(body, nil)
		if errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) {
			return nil, jsonlimit.ErrTooLarge
		}
		return text, err
	}
	return nil, unknownEncoding(encoding)
}

func unknownEncoding(encoding string) error {
	return fmt.Errorf("Content-Encoding %.50q is not known", encoding)
}

// decompress returns the decompressed content of a stream. Its Close, which must
// be called once, closes the body.
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
	return nil, unknownEncoding(encoding)
}

// A plainBody is the decompressed content of a body.
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

// encode returns v as JSON, compressed if that is smaller, and the encoding.
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
