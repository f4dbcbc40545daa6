//go:build bench

package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// A fleet is simulated connected registries of one root. They share the
// machine with it, so each is as little as can be: one goroutine, one
// connection and 1 KiB of buffer, and none of net/http's transport.
type fleet struct {
	host  string
	sites []*simulated
	codec *codec
	dials chan struct{} // as many as may connect at the same time

	holding  atomic.Int64 // polls without an answer
	answered atomic.Int64 // polls
	early    atomic.Int64 // of these, the ones that were answered before their time
	paused   atomic.Int64 // sites that the root told to come back later, and that wait
	refused  atomic.Int64 // how often it told one so
	retried  atomic.Int64 // requests, after a connection broke or the root failed
	trouble  atomic.Value // why the last one of these was, as a string
	awaited  atomic.Pointer[awaited]

	following *errgroup.Group
	stop      context.CancelFunc
	over      <-chan struct{} // closed when the sites end, at the first one's error too
}

func newFleet(host string) (*fleet, error) {
	c, err := newCodec()
	return &fleet{host: host, codec: c, dials: make(chan struct{}, 128)}, err
}

// activate activates all sites at once, and returns when each is.
func (f *fleet) activate(ctx context.Context) error {
	all, ctx := errgroup.WithContext(ctx)
	for _, s := range f.sites {
		all.Go(func() error {
			body, err := s.ask(ctx, s.activation())
			if err == nil {
				err = s.activated(body)
			}
			return s.failed("activate", err)
		})
	}
	return all.Wait()
}

// follow lets every site poll, until [fleet.end].
func (f *fleet) follow(ctx context.Context) {
	ctx, f.stop = context.WithCancel(ctx)
	f.following, ctx = errgroup.WithContext(ctx)
	f.over = ctx.Done()
	for _, s := range f.sites {
		f.following.Go(func() error {
			defer s.close()
			return s.follow(ctx)
		})
	}
}

// end stops the sites, and returns the first error of one that polled.
func (f *fleet) end() error {
	if f.stop == nil {
		return nil
	}
	f.stop()
	return f.following.Wait()
}

// An awaited is a change that the first sites of a fleet are to hear of, and
// no other.
type awaited struct {
	repository string // "" is none
	sites      int

	start  time.Time
	took   []time.Duration // by site
	left   atomic.Int64
	others atomic.Int64 // polls of other sites that were answered before their time
	all    chan struct{}
}

// await lets the fleet note who hears of a change in repository from now on.
func (f *fleet) await(repository string, sites int) *awaited {
	a := &awaited{repository: repository, sites: sites, took: make([]time.Duration, sites), all: make(chan struct{})}
	a.left.Store(int64(sites))
	a.start = time.Now()
	f.awaited.Store(a)
	return a
}

// note notes an answer to a site's poll.
func (a *awaited) note(s *simulated, changed []string, early bool) {
	if s.number >= a.sites {
		if early {
			a.others.Add(1)
		}
		return
	}
	for _, repository := range changed {
		if repository == a.repository && a.took[s.number] == 0 {
			a.took[s.number] = time.Since(a.start)
			if a.left.Add(-1) == 0 {
				close(a.all)
			}
		}
	}
}

// A simulated is a connected registry that only follows. One goroutine at a
// time uses it.
type simulated struct {
	follower
	fleet  *fleet
	number int
	header string // the lines that are in each request

	conn   net.Conn // nil before the first request, and after an error
	reader *bufio.Reader
	fails  int // requests without an answer, one after the other
}

// add makes a site of the fleet that logs in as token.
func (f *fleet) add(name, token, password string) {
	s := &simulated{
		follower: follower{name: name, instance: fmt.Sprintf("00000000-0000-4000-8000-%012d", len(f.sites))},
		fleet:    f, number: len(f.sites),
	}
	s.header = "Host: " + f.host + "\r\nUser-Agent: bench\r\n" +
		"Content-Type: application/json\r\nAccept-Encoding: zstd\r\n" +
		"Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(token+":"+password)) + "\r\n"
	f.sites = append(f.sites, s)
}

// failed adds to an error which site could not do what.
func (s *simulated) failed(verb string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", verb, s.name, err)
}

// leastPause is between two polls that bring nothing, whatever the parent
// makes of holding them.
const leastPause = time.Second

// follow polls until ctx ends.
func (s *simulated) follow(ctx context.Context) error {
	f := s.fleet
	for {
		q, asked := s.next(), time.Now()
		if q.hold > 0 {
			f.holding.Add(1)
		}
		body, err := s.ask(ctx, q)
		if q.hold > 0 {
			f.holding.Add(-1)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return s.failed("poll of", err)
		}
		changed, err := s.read(body)
		if err != nil {
			return s.failed("read answer to", err)
		}
		if q.hold == 0 {
			continue
		}
		early := time.Since(asked) < q.hold-time.Second
		f.answered.Add(1)
		if early {
			f.early.Add(1)
		}
		if a := f.awaited.Load(); a != nil {
			a.note(s, changed, early)
		}
		if early && len(changed) == 0 {
			pause(ctx, leastPause)
		}
	}
}

// How often a site may fail to reach the root, one time after the other, and
// how long the root may be silent, its hold aside.
const (
	maxFails = 10
	patient  = 2 * time.Minute
)

// ask sends a request, and returns the body of its answer. It tries again when
// the connection breaks, and after a pause when the root asks for one.
func (s *simulated) ask(ctx context.Context, q question) ([]byte, error) {
	for {
		body, later, err := s.try(ctx, q)
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case later > 0:
			s.fleet.refused.Add(1)
			s.fleet.paused.Add(1)
			pause(ctx, later+rand.N(later/3+1))
			s.fleet.paused.Add(-1)
		case err == nil:
			s.fails = 0
			return body, nil
		case errors.As(err, new(*refusal)):
			return nil, err
		default:
			if s.fails++; s.fails > maxFails {
				return nil, err
			}
			s.fleet.retried.Add(1)
			s.fleet.trouble.Store(err.Error())
			pause(ctx, rand.N(time.Second))
		}
	}
}

// A refusal is an answer of 300 to 499, other than a request to come later.
type refusal struct {
	status string
	body   []byte
}

func (e *refusal) Error() string { return e.status + ": " + string(e.body) }

// try sends a request once. After an error that came from the connection,
// that is closed. later is how long the root wants not to be asked.
func (s *simulated) try(ctx context.Context, q question) (body []byte, later time.Duration, err error) {
	text, encoding, err := s.fleet.codec.encode(q.body)
	if err != nil {
		return nil, 0, err
	}
	if s.conn == nil {
		if err := s.dial(ctx); err != nil {
			return nil, 0, err
		}
	}
	broken := func(err error) ([]byte, time.Duration, error) {
		s.close()
		return nil, 0, err
	}
	conn := s.conn
	conn.SetDeadline(time.Now().Add(q.hold + patient))
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := conn.Write(s.request(q.path, encoding, text)); err != nil {
		return broken(err)
	}
	resp, err := http.ReadResponse(s.reader, nil)
	if err != nil {
		return broken(err)
	}
	defer resp.Body.Close()
	if body, err = s.fleet.codec.decode(resp.Body, resp.Header.Get("Content-Encoding")); err != nil {
		return broken(err)
	}
	switch resp.StatusCode {
	case http.StatusOK:
		err = nil
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		later = max(time.Duration(seconds)*time.Second, time.Second)
	default:
		if err = error(&refusal{resp.Status, body}); resp.StatusCode >= 500 {
			err = errors.New(err.Error())
		}
	}
	if resp.Close {
		s.close()
	}
	return body, later, err
}

func (s *simulated) request(path, encoding string, body []byte) []byte {
	var b bytes.Buffer
	b.Grow(len(s.header) + len(body) + 128)
	b.WriteString("POST " + path + " HTTP/1.1\r\n" + s.header)
	if encoding != "" {
		b.WriteString("Content-Encoding: " + encoding + "\r\n")
	}
	b.WriteString("Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n")
	b.Write(body)
	return b.Bytes()
}

// dial connects to the root. A few source addresses have more ports than one.
func (s *simulated) dial(ctx context.Context) error {
	s.fleet.dials <- struct{}{}
	defer func() { <-s.fleet.dials }()
	d := net.Dialer{
		Timeout:   30 * time.Second,
		LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+s.number%4))},
		KeepAlive: -1,
	}
	conn, err := d.DialContext(ctx, "tcp", s.fleet.host)
	if err != nil {
		return err
	}
	s.conn, s.reader = conn, bufio.NewReaderSize(conn, 1<<10)
	return nil
}

func (s *simulated) close() {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
