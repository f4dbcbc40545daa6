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

// A fleet is a set of simulated connected registries of one root. They share the root's machine,
// so each takes as little as possible: one goroutine, one connection, 1 KiB of buffer, and no
// net/http transport.
type fleet struct {
	hosts    []string // of the root's processes; children take them in turn, and another one after a failure
	children []*simulatedChild
	codec    *codec
	dials    chan struct{} // limits concurrent connection attempts

	held      atomic.Int64 // polls that the root holds now
	answered  atomic.Int64 // polls
	early     atomic.Int64 // of these, those answered before the end of their hold time
	deferred  atomic.Int64 // children that wait because of Retry-After
	deferrals atomic.Int64 // responses with Retry-After
	retries   atomic.Int64 // requests repeated after a broken connection or a server error
	lastRetry atomic.Value // error of the last one, as a string
	expected  atomic.Pointer[expectedChange]

	polling *errgroup.Group
	stop    context.CancelFunc
	ended   <-chan struct{} // closed when the children end, for example after an error of one
}

func newFleet(hosts []string) (*fleet, error) {
	c, err := newCodec()
	return &fleet{hosts: hosts, codec: c, dials: make(chan struct{}, 128)}, err
}

// activate activates all children at once, and returns when all are activated.
func (f *fleet) activate(ctx context.Context) error {
	all, ctx := errgroup.WithContext(ctx)
	for _, s := range f.children {
		all.Go(func() error {
			body, err := s.send(ctx, s.activateRequest())
			if err == nil {
				err = s.readActivation(body)
			}
			return s.wrapError("activate", err)
		})
	}
	return all.Wait()
}

// poll makes all children poll, until [fleet.end].
func (f *fleet) poll(ctx context.Context) {
	ctx, f.stop = context.WithCancel(ctx)
	f.polling, ctx = errgroup.WithContext(ctx)
	f.ended = ctx.Done()
	for _, s := range f.children {
		f.polling.Go(func() error {
			defer s.close()
			return s.poll(ctx)
		})
	}
}

// end stops the children, and returns the first error of a poll.
func (f *fleet) end() error {
	if f.stop == nil {
		return nil
	}
	f.stop()
	return f.polling.Wait()
}

// An expectedChange is a change that concerns the first children of a fleet, and no others.
type expectedChange struct {
	repository string // "" is none
	children   int

	start    time.Time
	took     []time.Duration // by site
	missing  atomic.Int64
	others   atomic.Int64 // early answers to polls of other children
	complete chan struct{}
}

// expect makes the fleet record from now on which children learn of a change in repository.
func (f *fleet) expect(repository string, sites int) *expectedChange {
	a := &expectedChange{repository: repository, children: sites, took: make([]time.Duration, sites),
		complete: make(chan struct{})}
	a.missing.Store(int64(sites))
	a.start = time.Now()
	f.expected.Store(a)
	return a
}

// record records the answer to a child's poll.
func (a *expectedChange) record(s *simulatedChild, changed []string, early bool) {
	if s.number >= a.children {
		if early {
			a.others.Add(1)
		}
		return
	}
	for _, repository := range changed {
		if repository == a.repository && a.took[s.number] == 0 {
			a.took[s.number] = time.Since(a.start)
			if a.missing.Add(-1) == 0 {
				close(a.complete)
			}
		}
	}
}

// A simulatedChild is a connected registry that only polls. One goroutine at a time uses it.
type simulatedChild struct {
	childState
	fleet  *fleet
	number int
	header string // header lines of each request

	conn     net.Conn // nil before the first request, and after an error
	reader   *bufio.Reader
	failures int // consecutive requests without a response
}

// add adds a child that logs in with a token.
func (f *fleet) add(name, token, password string) {
	s := &simulatedChild{
		childState: childState{name: name, instance: fmt.Sprintf("00000000-0000-4000-8000-%012d", len(f.children))},
		fleet:      f, number: len(f.children),
	}
	s.header = "Host: " + f.hosts[0] + "\r\nUser-Agent: bench\r\n" +
		"Content-Type: application/json\r\nAccept-Encoding: zstd\r\n" +
		"Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(token+":"+password)) + "\r\n"
	f.children = append(f.children, s)
}

// wrapError adds the failed operation and the child's name to an error.
func (s *simulatedChild) wrapError(verb string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", verb, s.name, err)
}

// minPause is the pause after a poll that was answered early without a change, so that a root
// that holds no polls is not flooded.
const minPause = time.Second

// poll polls until ctx ends.
func (s *simulatedChild) poll(ctx context.Context) error {
	f := s.fleet
	for {
		q, asked := s.nextRequest(), time.Now()
		if q.hold > 0 {
			f.held.Add(1)
		}
		body, err := s.send(ctx, q)
		if q.hold > 0 {
			f.held.Add(-1)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return s.wrapError("poll of", err)
		}
		changed, err := s.readPoll(body)
		if err != nil {
			return s.wrapError("read answer to", err)
		}
		if q.hold == 0 {
			continue
		}
		early := time.Since(asked) < q.hold-time.Second
		f.answered.Add(1)
		if early {
			f.early.Add(1)
		}
		if a := f.expected.Load(); a != nil {
			a.record(s, changed, early)
		}
		if early && len(changed) == 0 {
			sleep(ctx, minPause)
		}
	}
}

// How often in a row a child may fail to reach the root, and how long a response may take
// beside its hold time.
const (
	maxFailures     = 10
	responseTimeout = 2 * time.Minute
)

// send sends a request and returns the body of the response. It tries again if the connection
// breaks, and after a pause if the root asks for one.
func (s *simulatedChild) send(ctx context.Context, q request) ([]byte, error) {
	for {
		body, later, err := s.sendOnce(ctx, q)
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case later > 0:
			s.fleet.deferrals.Add(1)
			s.fleet.deferred.Add(1)
			sleep(ctx, later+rand.N(later/3+1))
			s.fleet.deferred.Add(-1)
		case err == nil:
			s.failures = 0
			return body, nil
		case errors.As(err, new(*refusal)):
			return nil, err
		default:
			if s.failures++; s.failures > maxFailures {
				return nil, err
			}
			s.fleet.retries.Add(1)
			s.fleet.lastRetry.Store(err.Error())
			sleep(ctx, rand.N(time.Second))
		}
	}
}

// A refusal is a response of 300 to 499 without Retry-After.
type refusal struct {
	status string
	body   []byte
}

func (e *refusal) Error() string { return e.status + ": " + string(e.body) }

// sendOnce sends a request once. It closes the connection after an error of the connection.
// later is the pause that the root asks for.
func (s *simulatedChild) sendOnce(ctx context.Context, q request) (body []byte, later time.Duration, err error) {
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
	conn.SetDeadline(time.Now().Add(q.hold + responseTimeout))
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

func (s *simulatedChild) request(path, encoding string, body []byte) []byte {
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

// dial connects to the root. It uses several source addresses, because one has too few ports.
func (s *simulatedChild) dial(ctx context.Context) error {
	s.fleet.dials <- struct{}{}
	defer func() { <-s.fleet.dials }()
	d := net.Dialer{
		Timeout:   30 * time.Second,
		LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+s.number%4))},
		KeepAlive: -1,
	}
	hosts := s.fleet.hosts
	conn, err := d.DialContext(ctx, "tcp", hosts[(s.number+s.failures)%len(hosts)])
	if err != nil {
		return err
	}
	s.conn, s.reader = conn, bufio.NewReaderSize(conn, 1<<10)
	return nil
}

func (s *simulatedChild) close() {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
