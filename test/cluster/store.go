package cluster

import (
	"context"
	"errors"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"ferry/test/daemon"
)

// The login and the names of every [Store].
const (
	AccessKey = "ferry"
	SecretKey = "ferry-secret-key"
	Region    = "us-east-1"
	Bucket    = "registry"
)

// A Store is an S3 store with one bucket: versitygw on a directory, which a test can kill and
// start, behind a proxy that causes faults.
type Store struct {
	Endpoint string // http://127.0.0.1:PORT of the proxy
	Direct   string // of versitygw itself, without faults

	program, dir string
	credentials  string // file with the login
	cmd          *exec.Cmd
	faults       faultProxy
}

// Faults are the shares of requests to a [Store], from 0 to 1, that fail.
type Faults struct {
	Refuse float64 // answered with 503 SlowDown
	Cut    float64 // whose body, or whose answer's body, ends early
}

// StartStore starts a store without faults. It stops with the test.
func StartStore(t testing.TB) *Store {
	t.Helper()
	dir, err := os.MkdirTemp(memory(), "ferry-s3-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Mkdir(filepath.Join(dir, Bucket), 0o700); err != nil {
		t.Fatal(err)
	}
	s := &Store{
		Direct:  "http://" + daemon.FreeAddress(t),
		program: daemon.Program(t, "versitygw", "make tools"), dir: dir,
	}
	s.credentials = filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(s.credentials, []byte(credentialsFile), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Start(t)
	t.Cleanup(func() { s.Kill(t) })
	s.Endpoint = s.faults.start(t, s.Direct)
	return s
}

// memory returns a directory in memory if the machine has one.
func memory() string {
	if _, err := os.Stat("/dev/shm"); err != nil {
		return ""
	}
	return "/dev/shm"
}

// Start starts versitygw, and returns once it accepts connections.
func (s *Store) Start(t testing.TB) {
	t.Helper()
	u, err := url.Parse(s.Direct)
	if err != nil {
		t.Fatal(err)
	}
	s.cmd = exec.Command(s.program, "--port", u.Host, "--region", Region, "--quiet", "--keep-alive", "posix", s.dir)
	s.cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY_ID="+AccessKey, "ROOT_SECRET_ACCESS_KEY="+SecretKey)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 1500 {
		if conn, err := net.Dial("tcp", u.Host); err == nil {
			conn.Close()
			return
		}
		<-tick.C
	}
	t.Fatal("versitygw did not start")
}

// Kill ends versitygw as a power cut does.
func (s *Store) Kill(testing.TB) {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

// SetFaults makes the store fail, as a seed decides.
func (s *Store) SetFaults(f Faults, seed uint64) { s.faults.set(f, seed) }

// Failed returns how many requests failed because of [Faults] so far.
func (s *Store) Failed() int { return s.faults.count() }

// A faultProxy forwards requests, or makes them fail.
type faultProxy struct {
	mu     sync.Mutex
	faults Faults
	rng    *rand.Rand
	failed int
}

func (p *faultProxy) set(f Faults, seed uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults, p.rng = f, rand.New(rand.NewPCG(seed, 0))
}

func (p *faultProxy) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// draw returns which fault a request suffers, and after how many bytes a body is cut.
func (p *faultProxy) draw() (refuse, cut bool, after int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rng == nil {
		return false, false, 0
	}
	refuse = p.rng.Float64() < p.faults.Refuse
	cut = !refuse && p.rng.Float64() < p.faults.Cut
	if refuse || cut {
		p.failed++
	}
	return refuse, cut, p.rng.Int64N(64 << 10)
}

// slowDown is how S3 refuses a request.
const slowDown = `<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>`

// start starts the proxy before target, and returns its URL.
func (p *faultProxy) start(t testing.TB, target string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.DisableCompression = true
	transport.MaxIdleConnsPerHost = 100
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // it is signed
		},
		Transport:     transport,
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0),
		ModifyResponse: func(r *http.Response) error {
			if after, cut := r.Request.Context().Value(cutAfter{}).(int64); cut {
				r.Body = &cutBody{r.Body, after}
			}
			return nil
		},
	}
	srv := &http.Server{ErrorLog: log.New(io.Discard, "", 0)}
	srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refuse, cut, after := p.draw()
		if refuse {
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, slowDown)
			return
		}
		if cut {
			r = r.WithContext(context.WithValue(r.Context(), cutAfter{}, after))
			r.Body = &cutBody{r.Body, after}
		}
		forward.ServeHTTP(w, r)
	})
	t.Cleanup(func() { srv.Close(); transport.CloseIdleConnections() })
	go srv.Serve(l)
	return "http://" + l.Addr().String()
}

var errCut = errors.New("the test cut the body")

// cutAfter is the key of a request's context with the bytes after which its answer is cut.
type cutAfter struct{}

// cutBody is a body that ends with an error after some bytes.
type cutBody struct {
	io.ReadCloser
	left int64
}

func (b *cutBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errCut
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
