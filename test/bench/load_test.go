//go:build bench

package bench

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"ferry/test/site"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// A getter is one client with a connection of its own. It does as little as it
// can, since it shares the machine with what it measures, and does the same for
// both sides.
type getter struct {
	conn   net.Conn
	reader *bufio.Reader
	buffer []byte
}

// newGetter connects to host. Of answers larger than size, in bytes, it keeps only a part.
func newGetter(host string, size int) (*getter, error) {
	conn, err := net.Dial("tcp", host)
	if err != nil {
		return nil, err
	}
	return &getter{conn: conn, reader: bufio.NewReaderSize(conn, 8<<10), buffer: make([]byte, size)}, nil
}

// get makes a request of [side.request], reads all of the answer, and returns its
// body's size. A body that fits begins the buffer.
func (g *getter) get(request []byte) (size int64, err error) {
	if _, err := g.conn.Write(request); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(g.reader, nil)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("GET: %s", resp.Status)
	}
	for {
		n, err := resp.Body.Read(g.buffer[size%int64(len(g.buffer)):])
		size += int64(n)
		if errors.Is(err, io.EOF) {
			return size, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// bearer exchanges a login for a token that may pull a repository, and returns
// it as the header Authorization has it.
func (g *getter) bearer(l site.Login, repo string) (string, error) {
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(l.User+":"+l.Password))
	size, err := g.get(side{l.Host, "/oauth2/token?service=" + l.Host + "&scope=repository:" + repo + ":pull",
		basic}.request())
	if err != nil {
		return "", err
	}
	var token struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal(g.buffer[:size], &token); err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	return "Bearer " + token.Token, nil
}

// mustBearer is [getter.bearer] for what is set up before a measurement.
func mustBearer(t *testing.T, l site.Login, repo string) string {
	t.Helper()
	g, err := newGetter(l.Host, 8<<10)
	if err != nil {
		t.Fatal(err)
	}
	defer g.conn.Close()
	header, err := g.bearer(l, repo)
	if err != nil {
		t.Fatal(err)
	}
	return header
}

// A side is one of two servers that are asked for the same thing.
type side struct {
	host, path, authorization string // authorization may be empty
}

// request is the text of a GET.
func (s side) request() []byte {
	text := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nAccept: %s\r\n", s.path, s.host,
		v1.MediaTypeImageManifest)
	if s.authorization != "" {
		text += "Authorization: " + s.authorization + "\r\n"
	}
	return []byte(text + "\r\n")
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
		g, err := newGetter(s.host, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		defer g.conn.Close()
		getters[i] = g
	}
	request := s.request()
	start := time.Now()
	for i, g := range getters {
		group.Go(func() error {
			for requests == 0 || counts[i] < int64(requests) {
				n, err := g.get(request)
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
