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

	"ferry/test/instance"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// A rawClient is a client with one connection. It does as little work as possible, because it
// shares the machine with the servers.
type rawClient struct {
	conn   net.Conn
	reader *bufio.Reader
	buffer []byte
}

// dialClient connects to host. It buffers size bytes of a response.
func dialClient(host string, size int) (*rawClient, error) {
	conn, err := net.Dial("tcp", host)
	if err != nil {
		return nil, err
	}
	return &rawClient{conn: conn, reader: bufio.NewReaderSize(conn, 8<<10), buffer: make([]byte, size)}, nil
}

// get sends a request of [endpoint.request], reads the whole response, and returns the size of
// its body. A body that fits is at the start of the buffer.
func (g *rawClient) get(request []byte) (size int64, err error) {
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

// bearer exchanges a login for a token with rights to a repository, such as "pull,push". It returns
// the value of the Authorization header.
func (g *rawClient) bearer(l instance.Login, repo, actions string) (string, error) {
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(l.User+":"+l.Password))
	size, err := g.get(endpoint{l.Host, "/oauth2/token?service=" + l.Host + "&scope=repository:" + repo + ":" +
		actions, basic}.request())
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

// bearerFor is [rawClient.bearer] over a connection of its own.
func bearerFor(t *testing.T, l instance.Login, repo, actions string) string {
	t.Helper()
	g, err := dialClient(l.Host, 8<<10)
	if err != nil {
		t.Fatal(err)
	}
	defer g.conn.Close()
	header, err := g.bearer(l, repo, actions)
	if err != nil {
		t.Fatal(err)
	}
	return header
}

// An endpoint is a URL of one of the compared servers.
type endpoint struct {
	host, path, authorization string // without authorization if that is empty
}

// request returns the bytes of a GET request.
func (s endpoint) request() []byte {
	text := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nAccept: %s\r\n", s.path, s.host,
		v1.MediaTypeImageManifest)
	if s.authorization != "" {
		text += "Authorization: " + s.authorization + "\r\n"
	}
	return []byte(text + "\r\n")
}

// load makes clients get the path: each makes so many requests or, if that is 0, as many as it
// can within the time. It returns requests and bytes per second.
func (s endpoint) load(t *testing.T, clients, requests int, atMost time.Duration) (rate, throughput float64) {
	t.Helper()
	var group errgroup.Group
	counts := make([]int64, clients)
	sizes := make([]int64, clients)
	getters := make([]*rawClient, clients)
	for i := range getters {
		g, err := dialClient(s.host, 1<<20)
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
