//go:build bench

package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/test/cluster"
	"ferry/test/daemon"
	"ferry/test/instance"
)

// An objectCase is pulls or pushes of blobs of one size.
type objectCase struct {
	name    string
	size    int
	clients int
	rounds  int
	each    time.Duration // length of a round; 0 is one blob for each client
}

var objectPulls = []objectCase{
	{"a 64 MiB layer, 4 at a time", 64 << 20, 4, 11, 0},
	{"a 256 MiB layer, 4 at a time", 256 << 20, 4, 7, 0},
	{"layers of 16 KiB, 8 at a time", 16 << 10, 8, rounds, roundTime},
}

var objectPushes = []objectCase{
	{"a 64 MiB layer, 2 at a time", 64 << 20, 2, 5, 0},
	{"a 256 MiB layer", 256 << 20, 1, 3, 0},
	{"layers of 16 KiB, 8 at a time", 16 << 10, 8, rounds, roundTime},
}

// benchRepository has all blobs of these cases.
const benchRepository = "bench/blobs"

// objects measures pulls and pushes of blobs through Ferry, as a process of a cluster, and through
// CNCF distribution with its S3 driver. Both keep their blobs in one store, which is in memory.
func objects(t *testing.T) (figures []figure) {
	root := cluster.Start(t, cluster.Options{Direct: true, Args: []string{"--blob-redirect", linkedNetwork}})
	ferry := root.Root().AsAdmin(t)
	ferry.Host = root.Processes[0].Host
	for _, links := range []bool{false, true} {
		own := newBlobClient(t, ferry.Host, links, bearerFor(t, ferry, benchRepository, "pull,push"))
		other := newBlobClient(t, objectDistribution(t, root.Store, links), links, "")
		how := ", through the registry"
		if links {
			how = ", by links to the store"
		}
		for _, c := range objectPulls {
			figures = append(figures, c.pulls(t, how, own, other))
		}
		if links {
			break
		}
		for _, c := range objectPushes {
			figures = append(figures, c.pushes(t, own, other))
		}
	}
	return figures
}

// objectDistribution runs CNCF distribution with its S3 driver. With links, it answers pulls as it
// does by default: with links to the store.
func objectDistribution(t *testing.T, store *cluster.Store, links bool) string {
	t.Helper()
	return daemon.Distribution(t, tool(t, "registry"), daemon.DistributionConfig{Storage: fmt.Sprintf(
		"  s3: {regionendpoint: %q, region: %s, bucket: %s, rootdirectory: /distribution, forcepathstyle: true,"+
			" accesskey: %s, secretkey: %s}\n  redirect: {disable: %t}\n",
		store.Direct, cluster.Region, cluster.Bucket, cluster.AccessKey, cluster.SecretKey, !links)})
}

// linkedNetwork is the network of the clients to which Ferry answers with links to the store.
const linkedNetwork = "127.0.0.2/32"

// A blobClient is a client of one registry that pushes and pulls blobs as container tools do.
type blobClient struct {
	host, authorization string
	links               bool // expects links to the store
	http                *http.Client
}

func newBlobClient(t *testing.T, host string, links bool, authorization string) *blobClient {
	dialer := &net.Dialer{}
	if links {
		dialer.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}
	}
	transport := &http.Transport{DialContext: dialer.DialContext, MaxIdleConnsPerHost: 16, DisableCompression: true,
		WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10}
	t.Cleanup(transport.CloseIdleConnections)
	asIs := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &blobClient{host, authorization, links, &http.Client{Transport: transport, CheckRedirect: asIs}}
}

// do sends a request to the registry or, with a whole URL, to the store, and checks the status.
func (c *blobClient) do(ctx context.Context, method, url string, body []byte, want int) (*http.Response, error) {
	atStore := false
	if url[0] == '/' {
		url = "http://" + c.host + url
	} else if method == http.MethodGet {
		atStore = true
	}
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if c.authorization != "" && !atStore {
		req.Header.Set("Authorization", c.authorization)
	}
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	resp, err := c.http.Do(req)
	if err == nil && resp.StatusCode != want {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		resp.Body.Close()
		return nil, fmt.Errorf("%s %s: %s, want %d: %s", method, url, resp.Status, want, text)
	}
	return resp, err
}

// discard reads the rest of a body into a buffer, closes it, and returns its length.
func discard(resp *http.Response, buffer []byte) (int64, error) {
	defer resp.Body.Close()
	return io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, buffer)
}

// pull pulls a blob, and returns its size.
func (c *blobClient) pull(ctx context.Context, d digest.Digest, buffer []byte) (int64, error) {
	want := http.StatusOK
	if c.links {
		want = http.StatusTemporaryRedirect
	}
	resp, err := c.do(ctx, http.MethodGet, "/v2/"+benchRepository+"/blobs/"+d.String(), nil, want)
	if err != nil {
		return 0, err
	}
	if c.links {
		if _, err := discard(resp, buffer); err != nil {
			return 0, err
		}
		if resp, err = c.do(ctx, http.MethodGet, resp.Header.Get("Location"), nil, http.StatusOK); err != nil {
			return 0, err
		}
	}
	return discard(resp, buffer)
}

// push pushes a blob with POST, PATCH and PUT.
func (c *blobClient) push(ctx context.Context, content []byte, d digest.Digest) error {
	url := "/v2/" + benchRepository + "/blobs/uploads/"
	for _, step := range []struct {
		method string
		body   []byte
		status int
	}{
		{http.MethodPost, nil, http.StatusAccepted},
		{http.MethodPatch, content, http.StatusAccepted},
		{http.MethodPut, nil, http.StatusCreated},
	} {
		if step.method == http.MethodPut {
			url = instance.WithDigest(url, d)
		}
		resp, err := c.do(ctx, step.method, url, step.body, step.status)
		if err != nil {
			return err
		}
		url = resp.Header.Get("Location")
		resp.Body.Close() // it is empty
	}
	return nil
}

// A contentSource makes blobs that no registry has.
type contentSource []byte

// contentNumber is in the content of each blob, so that they all differ.
var contentNumber atomic.Uint64

func newContentSource(size int) contentSource {
	content := make([]byte, size)
	rand.NewChaCha8([32]byte{9}).Read(content)
	return content
}

// next returns a blob, which is valid until the next call, and its digest.
func (s contentSource) next() ([]byte, digest.Digest) {
	binary.LittleEndian.PutUint64(s, contentNumber.Add(1))
	return s, digest.FromBytes(s)
}

// pulls measures pulls of blobs that both registries have.
func (c objectCase) pulls(t *testing.T, how string, own, other *blobClient) figure {
	blobs := 1
	if c.each > 0 {
		blobs = 64
	}
	var digests []digest.Digest
	source := newContentSource(c.size)
	for range blobs {
		content, d := source.next()
		digests = append(digests, d)
		for _, client := range []*blobClient{own, other} {
			if err := client.push(t.Context(), content, d); err != nil {
				t.Fatal(err)
			}
		}
	}
	pull := func(client *blobClient, number int) func(context.Context) error {
		buffer, next := make([]byte, 256<<10), number
		return func(ctx context.Context) error {
			next++
			size, err := client.pull(ctx, digests[next%len(digests)], buffer)
			if err == nil && size != int64(c.size) {
				err = fmt.Errorf("a pull of %d bytes returned %d", c.size, size)
			}
			return err
		}
	}
	for _, client := range []*blobClient{own, other} { // the first pulls read what later ones find in memory
		if err := pull(client, 0)(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return c.measure(t, "pulls of "+c.name+how, own, other, pull)
}

// pushes measures pushes of blobs that no registry has.
func (c objectCase) pushes(t *testing.T, own, other *blobClient) figure {
	sources := make([]contentSource, c.clients)
	for i := range sources {
		sources[i] = newContentSource(c.size)
	}
	return c.measure(t, "pushes of "+c.name, own, other,
		func(client *blobClient, number int) func(context.Context) error {
			content, d := sources[number].next()
			return func(ctx context.Context) error {
				err := client.push(ctx, content, d)
				if c.each > 0 {
					content, d = sources[number].next()
				}
				return err
			}
		})
}

// measure measures both registries in turn. prepare returns what one of the clients does
// repeatedly; only that is measured.
func (c objectCase) measure(t *testing.T, name string, own, other *blobClient,
	prepare func(client *blobClient, number int) func(context.Context) error) figure {
	perSecond := func(client *blobClient) float64 {
		var work []func(context.Context) error
		for i := range c.clients {
			work = append(work, prepare(client, i))
		}
		return callsPerSecond(t, c.each, work)
	}
	rate, otherRate, ratio := compare(c.rounds, own, other, perSecond)
	show := func(rate float64) string {
		if c.each > 0 {
			return fmt.Sprintf("%.0f/s", rate)
		}
		return fmt.Sprintf("%.0f MiB/s", rate*float64(c.size)/(1<<20))
	}
	const noise = 0.05 // between two measurements of one server
	return figure{
		name: "object store: " + name, ferry: show(rate),
		peer:  "CNCF distribution on the same store: " + show(otherRate),
		ratio: fmt.Sprintf("%.2f", ratio), target: "as fast, within 5 %", reached: ratio / (1 - noise),
	}
}
