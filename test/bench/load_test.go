//go:build bench

package bench

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// A getter is one client: a connection that is kept open, and one request
// that is sent over it again and again. It does as little as it can, since it
// shares the machine with what it measures, and does the same for both sides.
type getter struct {
	conn    net.Conn
	reader  *bufio.Reader
	request []byte
	buffer  []byte
}

// newGetter connects to host for GETs of path. authorization may be empty.
func newGetter(host, path, authorization string) (*getter, error) {
	conn, err := net.Dial("tcp", host)
	if err != nil {
		return nil, err
	}
	request := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nAccept: %s\r\n", path, host, v1.MediaTypeImageManifest)
	if authorization != "" {
		request += "Authorization: " + authorization + "\r\n"
	}
	return &getter{
		conn:    conn,
		reader:  bufio.NewReaderSize(conn, 8<<10),
		request: []byte(request + "\r\n"),
		buffer:  make([]byte, 1<<20),
	}, nil
}

// get makes the request, reads all of the answer, and returns its body's size.
func (g *getter) get() (int64, error) {
	if _, err := g.conn.Write(g.request); err != nil {
		return 0, err
	}
	status, err := g.reader.ReadString('\n')
	if err != nil {
		return 0, err
	}
	header, err := textproto.NewReader(g.reader).ReadMIMEHeader()
	if err != nil {
		return 0, err
	}
	if !strings.HasPrefix(status, "HTTP/1.1 200 ") {
		return 0, fmt.Errorf("GET: %s", status)
	}
	size, err := strconv.ParseInt(header.Get("Content-Length"), 10, 64)
	if err != nil {
		return 0, err
	}
	left := size
	for left > 0 {
		var from io.Reader = g.conn // past what the reader has, straight into the buffer
		if g.reader.Buffered() > 0 {
			from = io.LimitReader(g.reader, int64(g.reader.Buffered()))
		}
		n, err := from.Read(g.buffer[:min(left, int64(len(g.buffer)))])
		left -= int64(n)
		if err != nil && left > 0 {
			return 0, err
		}
	}
	return size, nil
}

// A side is one of two servers that are asked for the same thing.
type side struct {
	host, path, authorization string
}

// load makes clients get the path until each has done requests of them, or,
// where that is 0, until the time is over. It returns requests and bytes per
// second.
func (s side) load(t *testing.T, clients, requests int, atMost time.Duration) (rate, throughput float64) {
	t.Helper()
	var group errgroup.Group
	counts := make([]int64, clients)
	sizes := make([]int64, clients)
	getters := make([]*getter, clients)
	for i := range getters {
		g, err := newGetter(s.host, s.path, s.authorization)
		if err != nil {
			t.Fatal(err)
		}
		defer g.conn.Close()
		getters[i] = g
	}
	start := time.Now()
	for i, g := range getters {
		group.Go(func() error {
			for requests == 0 || counts[i] < int64(requests) {
				n, err := g.get()
				if err != nil {
					return err
				}
				counts[i]++
				sizes[i] += n
				if requests == 0 && time.Since(start) > atMost {
					return nil
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatalf("%s%s: %v", s.host, s.path, err)
	}
	seconds := time.Since(start).Seconds()
	var count, size int64
	for i := range counts {
		count += counts[i]
		size += sizes[i]
	}
	return float64(count) / seconds, float64(size) / seconds
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
