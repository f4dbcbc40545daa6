package faultnet

import (
	"context"
	"net/http"
	"slices"
	"time"
)

// slowPart is how many bytes a [SlowWriter] sends at a time.
const slowPart = 4 << 10

// A SlowWriter writes an answer at a limited rate, and counts its bytes.
type SlowWriter struct {
	http.ResponseWriter
	Context context.Context // of the request
	Rate    func() int64    // bytes a second, called before each part; 0 is no limit
	Sent    func(n int)     // called with the number of bytes sent
}

// Write implements [io.Writer].
func (w *SlowWriter) Write(p []byte) (written int, err error) {
	for part := range slices.Chunk(p, slowPart) {
		if rate := w.Rate(); rate > 0 {
			select {
			case <-time.After(time.Duration(len(part)) * time.Second / time.Duration(rate)):
			case <-w.Context.Done():
				return written, w.Context.Err()
			}
		}
		n, err := w.ResponseWriter.Write(part)
		w.Sent(n)
		if written += n; err != nil {
			return written, err
		}
	}
	return written, nil
}

// Unwrap returns the inner writer, for [http.ResponseController].
func (w *SlowWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
