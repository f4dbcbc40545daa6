package noderuntime

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// An owner exists, or does not, or is not known to.
type owner struct {
	exists bool
	err    error
}

func (o *owner) Exists(context.Context) (bool, error) { return o.exists, o.err }

// startWatch runs a watch until the returned function is called, which returns its error.
func startWatch(t *testing.T, w *Watch) (stop func() error) {
	t.Helper()
	w.Runtime, w.Interval, w.Log = "containerd", 5*time.Second, slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	synctest.Wait()
	return func() error {
		cancel()
		return <-ended
	}
}

func TestWatchRepairsAndFollowsItsSettings(t *testing.T) {
	n := newNode(t, "-- etc/containerd/config.toml --\nversion = 3\n-- var/lib/ --\n")
	ca := authority(t)
	synctest.Test(t, func(t *testing.T) {
		s := &Settings{Endpoint: edge, CA: ca, Username: "node", Password: "one"}
		readable := errors.New("the authority's file does not exist")
		var mu sync.Mutex // guards s and readable; a timer of the bubble is no barrier
		change := func(f func()) {
			mu.Lock()
			defer mu.Unlock()
			f()
		}
		w := &Watch{Node: n, Settings: func() (c *Settings, err error) {
			change(func() { copied := *s; c, err = &copied, readable })
			return c, err
		}}
		stop := startWatch(t, w)
		before := tree(t, n)
		dir := "/etc/containerd/certs.d/edge.example_5000_"
		if n.exists(dir) {
			t.Fatal("the node was configured without settings")
		}
		hosts := func() string {
			time.Sleep(w.Interval) // of the bubble
			synctest.Wait()
			text, err := n.read(dir + "/hosts.toml")
			if err != nil {
				t.Error(err)
			}
			return string(text)
		}
		change(func() { readable = nil })
		first := hosts()
		if !strings.Contains(first, "authorization") {
			t.Fatalf("hosts.toml has no login:\n%s", first)
		}
		if err := os.Remove(filepath.Join(n.Root, dir, "hosts.toml")); err != nil {
			t.Fatal(err)
		}
		if got := hosts(); got != first {
			t.Errorf("a removed file was repaired as\n%s", got)
		}
		change(func() { s.Password = "two" })
		if hosts() == first {
			t.Error("a new password was not written")
		}

		// The old authority stays while pulls may read it, and goes then.
		old := s.caName()
		change(func() { s.CA = slices.Concat([]byte("\n"), ca, ca) })
		if got := hosts(); !strings.Contains(got, s.caName()) {
			t.Errorf("hosts.toml does not name the new authority %s:\n%s", s.caName(), got)
		}
		if !n.exists(dir+"/"+old) || !n.exists(dir+"/"+s.caName()) {
			t.Error("an authority is missing")
		}
		time.Sleep(grace)
		hosts()
		if n.exists(dir + "/" + old) {
			t.Error("the old authority was left")
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, tree(t, n)); diff != "" {
			t.Errorf("the files were not restored (-before +now):\n%s", diff)
		}
	})
}

func TestWatchRestoresOnlyIfItsOwnerIsGone(t *testing.T) {
	for name, test := range map[string]struct {
		owner Owner
		kept  bool
	}{
		"no owner":   {nil, false},
		"it exists":  {&owner{exists: true}, true},
		"it is gone": {&owner{}, false},
		"not known":  {&owner{err: errors.New("no route to host")}, true},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, "-- etc/containerd/config.toml --\nversion = 3\n-- var/lib/ --\n")
			synctest.Test(t, func(t *testing.T) {
				stop := startWatch(t, &Watch{Node: n, Owner: test.owner,
					Settings: func() (*Settings, error) { return &Settings{Endpoint: edge}, nil }})
				if !n.exists("/etc/containerd/certs.d") {
					t.Fatal("the node was not configured")
				}
				if err := stop(); err != nil {
					t.Fatal(err)
				}
				if kept := n.exists("/etc/containerd/certs.d"); kept != test.kept {
					t.Errorf("the files were kept: %t", kept)
				}
			})
		})
	}
}
