package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

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

// decode reads one JSON value from a body of the given encoding, at most
// limit bytes of it.
func decode(body io.Reader, encoding string, limit int64, v any) error {
	r, closer, err := decompress(body, encoding)
	if err != nil {
		return err
	}
	defer closer()
	limited := &io.LimitedReader{R: r, N: limit + 1}
	d := json.NewDecoder(limited)
	err = d.Decode(v)
	if limited.N <= 0 {
		return errBodyTooLarge
	}
	return err
}

// decompress returns the plain body; the second result frees the decoder.
func decompress(body io.Reader, encoding string) (io.Reader, func(), error) {
	switch strings.ToLower(encoding) {
	case "", "identity":
		return body, func() {}, nil
	case encodingZstd:
		z, err := zstd.NewReader(body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(windowLimit))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	}
	return nil, nil, fmt.Errorf("Content-Encoding %q is not known", encoding)
}

// encode returns v as JSON, compressed where that is smaller, and its encoding.
func encode(v any) (body []byte, encoding string, err error) {
	body, err = json.Marshal(v)
	if err != nil || len(body) < compressFrom {
		return body, "", err
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	if err != nil {
		return nil, "", err
	}
	defer z.Close()
	if small := z.EncodeAll(body, nil); len(small) < len(body) {
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
