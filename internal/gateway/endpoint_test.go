package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/faultnet"
	"ferry/internal/gateway"
	"ferry/internal/wire"
)

// A reachable is a parent with several endpoints in memory, each on a network of its own. Only the
// test's goroutine changes it.
type reachable struct {
	pipes    map[string]*faultnet.Pipe
	networks map[string]*faultnet.Network
	down     map[string]bool
	status   map[string]int // of every answer; 0 is 200
	asked    []string       // the endpoints that got the requests
	client   *gateway.Client
	stop     func()
}

func newReachable(t *testing.T, names ...string) *reachable {
	p := &reachable{pipes: map[string]*faultnet.Pipe{}, networks: map[string]*faultnet.Network{},
		down: map[string]bool{}, status: map[string]int{}}
	var servers []*http.Server
	for _, name := range names {
		pipe, network := faultnet.NewPipe(), faultnet.New(1)
		p.pipes[name], p.networks[name] = pipe, network
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p.asked = append(p.asked, name)
			if _, password, _ := r.BasicAuth(); password != "s3cr3t" {
				t.Errorf("%s got the password %q", name, password)
			}
			if status := p.status[name]; status != 0 {
				w.Header().Set("Location", r.URL.Path)
				w.WriteHeader(status)
				return
			}
			fmt.Fprintf(w, `{"capability":2,"feed":%q}`, strings.Repeat(name, 100))
		})}
		servers = append(servers, srv)
		go srv.Serve(network.Listen(pipe))
	}
	transport := gateway.NewTransport()
	transport.DisableKeepAlives = true
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		name, _, _ := net.SplitHostPort(address)
		if p.down[name] {
			return nil, errors.New("no route to host")
		}
		return p.pipes[name].Dial(ctx, network, address)
	}
	c := plainHTTP
	c.Endpoint = strings.Join(names, ",")
	p.client = gateway.NewClient(c, transport)
	p.stop = func() {
		transport.CloseIdleConnections()
		for _, srv := range servers {
			srv.Close()
		}
		synctest.Wait()
	}
	return p
}

// poll polls, and fails the test unless exactly these endpoints are asked.
func (p *reachable) poll(t *testing.T, want ...string) error {
	t.Helper()
	p.asked = nil
	_, err := p.client.Poll(t.Context(), wire.PollRequest{})
	if fmt.Sprint(p.asked) != fmt.Sprint(want) {
		t.Errorf("the poll asked %v, want %v (%v)", p.asked, want, err)
	}
	return err
}

// ok is poll for one that must succeed.
func (p *reachable) ok(t *testing.T, want ...string) {
	t.Helper()
	if err := p.poll(t, want...); err != nil {
		t.Error(err)
	}
}

func TestEndpointsAreTriedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newReachable(t, "a", "b", "c")
		defer p.stop()
		p.ok(t, "a")
		p.down["a"], p.down["b"] = true, true
		p.ok(t, "c")
		if at := p.client.ParentURL(); at != "http://c" {
			t.Errorf("the parent is at %s, want http://c", at)
		}
		p.down["b"] = false
		p.ok(t, "c") // b failed just now
		p.down["a"], p.down["c"] = false, true
		p.ok(t, "a") // all failed lately: the preferred one is first
		p.down["a"], p.down["b"] = true, true
		err := p.poll(t)
		for _, part := range []string{"http://a: ", "http://b: ", "http://c: ", "no route to host"} {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%v does not say %q", err, part)
			}
		}
	})
}

func TestPreferredEndpointIsUsedOnceItAnswersAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newReachable(t, "a", "b")
		defer p.stop()
		p.down["a"] = true
		p.ok(t, "b")
		p.down["a"] = false
		time.Sleep(59 * time.Second)
		p.ok(t, "b")
		time.Sleep(time.Second)
		if _, _, err := p.client.Blob(t.Context(), "app/a", someDigest, 0, 1); err != nil { // a running sync stays
			t.Error(err)
		}
		if last := p.asked[len(p.asked)-1]; last != "b" {
			t.Errorf("a layer came from %s, want b", last)
		}
		p.ok(t, "a")
		p.down["a"] = true
		p.ok(t, "b")
		time.Sleep(time.Minute)
		p.ok(t, "b") // and failed again: the pause doubles
		p.down["a"] = false
		time.Sleep(time.Minute)
		p.ok(t, "b")
		time.Sleep(time.Minute)
		p.ok(t, "a")
	})
}

func TestCutAnswerIsNoFailureOfItsEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newReachable(t, "a", "b")
		defer p.stop()
		p.networks["a"].Set(faultnet.Faults{CutEvery: 50})
		if err := p.poll(t, "a"); err == nil {
			t.Error("a cut answer is no error")
		}
		p.networks["a"].Set(faultnet.Faults{})
		p.ok(t, "a")
	})
}

func TestProxyWithoutTheParentIsPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newReachable(t, "a", "b")
		defer p.stop()
		p.status["a"] = http.StatusBadGateway
		p.ok(t, "a", "b")
		p.ok(t, "b")
		p.status["b"] = http.StatusBadGateway // the last one's answer is the answer
		if err := p.poll(t, "b", "a"); err == nil || !strings.Contains(err.Error(), "502") {
			t.Errorf("poll = %v, want 502", err)
		}
	})
}

func TestRedirectOfAPollIsNotFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newReachable(t, "a", "b")
		defer p.stop()
		p.status["a"] = http.StatusTemporaryRedirect
		if err := p.poll(t, "a"); err == nil || !strings.Contains(err.Error(), "elsewhere") {
			t.Errorf("poll = %v, want that the parent sends elsewhere", err)
		}
	})
}
