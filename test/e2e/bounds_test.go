//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"ferry/test/image"
	"ferry/test/instance"
)

// maxResident is the maximum resident memory of a connected registry, in bytes.
const maxResident = 64 << 20

// resident returns the peak of the resident memory of a site since the last call, in
// bytes.
func resident(t *testing.T, s *instance.Instance) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID()))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(text)
	if m == nil {
		t.Fatalf("no VmHWM in\n%s", text)
	}
	n, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.PID()), []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
	return n << 10
}

// boundedMemory runs an input against a site, whose memory must stay within maxResident,
// and which must still serve afterwards.
func boundedMemory(t *testing.T, s *instance.Instance, name string, input func(t *testing.T)) {
	t.Run(name, func(t *testing.T) {
		before := resident(t, s)
		start := time.Now()
		input(t)
		most := resident(t, s)
		t.Logf("%d MiB resident, after %d MiB; %v", most>>20, before>>20, time.Since(start).Round(time.Millisecond))
		if most > maxResident {
			t.Errorf("%d MiB resident, want at most %d", most>>20, maxResident>>20)
		}
		resp, err := http.Get(s.URL + "/health/ready")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("ready: %d", resp.StatusCode)
		}
	})
}

// compressedList returns JSON with a list of n equal elements, compressed with zstd.
func compressedList(t *testing.T, before, element string, n int, after string) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil, zstd.WithWindowSize(256<<10))
	if err != nil {
		t.Fatal(err)
	}
	return z.EncodeAll([]byte(before+strings.Repeat(element+",", n-1)+element+after), nil)
}

// concurrently runs fn n times, at most width at a time.
func concurrently(n, width int, fn func(i int)) {
	var all sync.WaitGroup
	turns := make(chan struct{}, width)
	for i := range n {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			fn(i)
		})
	}
	all.Wait()
}

// post sends a body to the gateway, and returns the status; 0 if there is no response.
func post(t *testing.T, l instance.Login, path string, body []byte) int {
	t.Helper()
	header := http.Header{"Content-Encoding": {"zstd"}, "Content-Type": {"application/json"}}
	resp, err := l.Do(t.Context(), http.MethodPost, path, header, bytes.NewReader(body), int64(len(body)))
	if s, ok := errors.AsType[*instance.StatusError](err); ok {
		return s.Status
	}
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

func TestConnectedRegistryMemoryIsBoundedForEveryInput(t *testing.T) {
	root := startRoot(t)
	sh := root.Admin(t, "root")
	img := image.New(t, image.Options{Seed: 60, Layers: []int64{1000}})
	push(t, root, "apps/a", img)
	connection := instance.Connect(t, sh, "ship1", root.Host, []string{"apps/*"})
	below := instance.Connect(t, sh, "cabin1", "unused", []string{"apps/*"}, "--parent", "ship1")
	sh.Run(t, "scope-map", "create", "--name", "readers", "--repository", "apps/*", "content/read", "metadata/read")
	reader := instance.Token(t, sh, "reader", "readers")
	sh.Run(t, "connected-registry", "update", "--name", "ship1", "--add-client-tokens", "reader")
	ship := instance.Start(t, connection.Options(instance.Options{}))
	awaitImage(t, ship, "apps/a", img)
	reader.Host = ship.Host
	child := loginOf(t, below.ConnectionString)
	child.Host = ship.Host
	admin := ship.AsAdmin(t)
	activate := []byte(`{"name":"cabin1","instanceId":"one","version":"test","capability":1}`)
	if status := post(t, child, "/gateway/v1/activate", zstdOf(t, activate)); status != http.StatusOK {
		t.Fatalf("activate: %d", status)
	}

	boundedMemory(t, ship, "a small request with a million objects", func(t *testing.T) {
		bomb := compressedList(t, `{"name":"cabin1","instanceId":"one","report":{"descendants":[`, "{}", 1_390_000,
			"]}}")
		concurrently(40, 20, func(int) {
			if status := post(t, reader, "/gateway/v1/poll", bomb); status != http.StatusForbidden {
				t.Errorf("from a token without a gateway permission: %d", status)
			}
			if status := post(t, child, "/gateway/v1/poll", bomb); status != http.StatusRequestEntityTooLarge {
				t.Errorf("from a child: %d", status)
			}
		})
	})
	boundedMemory(t, ship, "many spellings of a child's name", func(t *testing.T) {
		concurrently(150, 50, func(i int) {
			name := []byte("cabin1")
			for bit := range 5 {
				if i>>bit&1 == 1 {
					name[bit] -= 'a' - 'A'
				}
			}
			body := fmt.Sprintf(`{"name":%q,"want":[{"repository":"apps/a","digest":%q}]}`, name, img.Digest)
			if status := post(t, child, "/gateway/v1/plan", zstdOf(t, []byte(body))); status != 200 && status != 503 {
				t.Errorf("%s: %d", name, status)
			}
		})
	})
	boundedMemory(t, ship, "a child that polls in a loop", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		busy := 0
		for ctx.Err() == nil && busy == 0 {
			var mu sync.Mutex
			concurrently(50, 50, func(int) {
				if status := post(t, child, "/gateway/v1/poll",
					zstdOf(t, []byte(`{"name":"cabin1","instanceId":"one"}`))); status == 503 {
					mu.Lock()
					busy++
					mu.Unlock()
				}
			})
		}
		if busy == 0 {
			t.Error("it is never rate-limited")
		}
	})
	boundedMemory(t, ship, "incomplete bodies", func(t *testing.T) {
		sendIncomplete(t, ship, 1500,
			"POST /oauth2/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"+
				"Content-Length: 100\r\n\r\nx")
		if _, err := admin.Digest(t.Context(), "apps/a", img.Tag); err != nil { // from another address
			t.Error(err)
		}
		if !strings.Contains(ship.Log(), "connection is refused") {
			t.Errorf("the log has no refused connection:\n%s", ship.Log())
		}
	})
	boundedMemory(t, ship, "incomplete headers", func(t *testing.T) {
		header := "GET /v2/ HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X-Long: "+strings.Repeat("x", 1000)+"\r\n", 60)
		sendIncomplete(t, ship, 500, header)
	})
	boundedMemory(t, ship, "password guesses", func(t *testing.T) {
		var mu sync.Mutex
		checked := 0
		concurrently(1000, 30, func(i int) {
			guess := instance.Login{Host: ship.Host, User: "admin", Password: fmt.Sprint("guess", i)}
			_, err := guess.Do(t.Context(), http.MethodGet, "/v2/", nil, nil, 0)
			mu.Lock()
			defer mu.Unlock()
			if isStatus(err, http.StatusUnauthorized, "") {
				checked++
			}
		})
		if checked > 12 { // 10, and one more every 6 s
			t.Errorf("%d of 1,000 guesses were checked", checked)
		}
		if _, err := reader.Digest(t.Context(), "apps/a", img.Tag); err != nil {
			t.Errorf("a client at the same address: %v", err)
		}
		if _, err := admin.Digest(t.Context(), "apps/a", img.Tag); err != nil {
			t.Errorf("the administrator: %v", err)
		}
	})
	var large []digest.Digest
	boundedMemory(t, ship, "a sync of large manifests", func(t *testing.T) {
		large = pushReferrers(t, root.AsAdmin(t), "apps/a", img, 12)
		ctx, cancel := context.WithTimeout(t.Context(), syncTimeout)
		defer cancel()
		for i := 0; i < len(large); {
			if _, err := reader.Digest(ctx, "apps/a", large[i].String()); err == nil {
				i++
				continue
			}
			select {
			case <-ctx.Done():
				t.Fatal("the manifests are not synced")
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	boundedMemory(t, ship, "referrers with long annotations", func(t *testing.T) {
		pull(t, reader, "/v2/apps/a/referrers/"+img.Digest.String()+"?n=1", 50, 10)
	})
	boundedMemory(t, ship, "many pulls of large manifests", func(t *testing.T) {
		if n := pull(t, reader, "/v2/apps/a/manifests/"+large[0].String(), 180, 60); n < 180*4<<20*9/10 {
			t.Errorf("%d bytes in total", n)
		}
	})
}

// pull gets a path n times, at most width at a time, and returns the number of bytes.
func pull(t *testing.T, l instance.Login, path string, n, width int) int64 {
	var all atomic.Int64
	concurrently(n, width, func(int) {
		resp, err := l.Do(t.Context(), http.MethodGet, path, nil, nil, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		got, err := io.Copy(io.Discard, resp.Body)
		all.Add(got)
		if err != nil {
			t.Error(err)
		}
	})
	return all.Load()
}

// sendIncomplete opens n connections from another address, and sends the beginning of a
// request on each. They stay open until the test ends.
func sendIncomplete(t *testing.T, s *instance.Instance, n int, begin string) {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	for range n {
		c, err := dialer.DialContext(t.Context(), "tcp", s.Host)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		fmt.Fprint(c, begin) // the site closes connections beyond its limit
	}
}

// pushReferrers pushes n referrers of img, with almost 4 MiB of annotations each, and
// returns their digests.
func pushReferrers(t *testing.T, l instance.Login, repo string, img *image.Image, n int) (all []digest.Digest) {
	t.Helper()
	for i := range n {
		annotations := map[string]string{"number": fmt.Sprint(i)}
		for k := range 100 {
			annotations[fmt.Sprint("key", k)] = strings.Repeat("x", 40<<10)
		}
		m := v1.Manifest{
			MediaType: v1.MediaTypeImageManifest, Config: img.Manifest.Config, Layers: []v1.Descriptor{},
			Annotations: annotations,
			Subject:     &v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: img.Digest, Size: 1},
		}
		m.SchemaVersion = 2
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		d := digest.FromBytes(text)
		header := http.Header{"Content-Type": {v1.MediaTypeImageManifest}}
		resp, err := l.Do(t.Context(), http.MethodPut, "/v2/"+repo+"/manifests/"+d.String(), header,
			bytes.NewReader(text), int64(len(text)))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		all = append(all, d)
	}
	return all
}

func TestConnectedRegistryMemoryIsBoundedForParentAnswers(t *testing.T) {
	bombs := map[string][]byte{
		"listings":      compressedList(t, `{"listings":[`, "{}", 2_700_000, "]}"),
		"items":         compressedList(t, `{"listings":[{"items":[`, "{}", 2_700_000, "]}]}"),
		"registries":    compressedList(t, `{"desired":{"connectedRegistries":[`, "{}", 2_700_000, "]}}"),
		"a long string": compressedList(t, `{"feed":"`, strings.Repeat("x", 1023), 100_000, `"}`),
		"no end of it":  compressedList(t, `{"feed":"`, strings.Repeat("x", 1023), 8000, `"}`),
		"a large error": []byte(`{"errors":[` + strings.Repeat("{},", 1<<20) + "{}]}"),
	}
	for name, bomb := range bombs {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			asked := 0
			parent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				asked++
				mu.Unlock()
				if name == "a large error" {
					w.WriteHeader(http.StatusBadRequest)
				} else {
					w.Header().Set("Content-Encoding", "zstd")
				}
				w.Write(bomb)
			}))
			defer parent.Close()
			c := instance.Connection{Name: "ship1",
				ConnectionString: "ConnectedRegistryName=ship1;SyncTokenName=ship1;SyncTokenPassword=x;" +
					"ParentGatewayEndpoint=" + strings.TrimPrefix(parent.URL,
					"http://") + ";ParentEndpointProtocol=http"}
			ship := instance.Start(t, c.Options(instance.Options{}))
			boundedMemory(t, ship, "answers", func(t *testing.T) {
				deadline := time.Now().Add(30 * time.Second)
				for ; time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
					mu.Lock()
					enough := asked >= 3
					mu.Unlock()
					if enough {
						return
					}
				}
				t.Fatal("the site does not poll again")
			})
		})
	}
}

// zstdOf compresses text with zstd.
func zstdOf(t *testing.T, text []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil, zstd.WithWindowSize(256<<10))
	if err != nil {
		t.Fatal(err)
	}
	return z.EncodeAll(text, nil)
}

// loginOf returns the sync token of a connection string.
func loginOf(t *testing.T, connection string) instance.Login {
	t.Helper()
	var l instance.Login
	for field := range strings.SplitSeq(connection, ";") {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "SyncTokenName":
			l.User = value
		case "SyncTokenPassword":
			l.Password = value
		}
	}
	if l.Password == "" {
		t.Fatal("the connection string has no password")
	}
	return l
}
