//go:build bench

package bench

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"ferry/test/daemon"
	"ferry/test/image"
	"ferry/test/instance"
)

// roundTime is how long a round measures one server. It is short, so that a change in the
// machine's speed affects both servers.
const roundTime = 2 * time.Second

// servers are Ferry and CNCF distribution, each in a process of its own.
type servers struct {
	ferry        instance.Login // an administrator, to push
	reader       instance.Login // a token of Ferry that may pull
	distribution instance.Login // without authentication
}

func startServers(t *testing.T) servers {
	root := instance.Start(t, instance.Options{})
	reader := pullToken(t, root.Admin(t, "root"))
	reader.Host = root.Host
	return servers{
		ferry: root.AsAdmin(t), reader: reader,
		distribution: instance.Login{Host: daemon.Distribution(t, tool(t, "registry"), daemon.DistributionConfig{})},
	}
}

// push pushes an image to both servers.
func (s servers) push(t *testing.T, img *image.Image) {
	t.Helper()
	for _, l := range []instance.Login{s.ferry, s.distribution} {
		if err := l.Push(t.Context(), "bench/app", img); err != nil {
			t.Fatal(err)
		}
	}
}

// rateFigure returns a figure of the rates of Ferry and CNCF distribution. Its target is a
// ratio of at least atLeast.
func rateFigure(name string, atLeast, own, theirs, ratio float64) figure {
	return figure{
		name: name, ferry: fmt.Sprintf("%.0f/s", own),
		peer:  fmt.Sprintf("CNCF distribution without authentication: %.0f/s", theirs),
		ratio: fmt.Sprintf("%.2f", ratio), target: fmt.Sprint(atLeast), reached: ratio / atLeast,
	}
}

// tagList measures lists of the 1,000 tags of a repository. Only Ferry gets a bearer token.
func tagList(t *testing.T) []figure {
	const clients, tags = 8, 1000
	both := startServers(t)
	img := image.New(t, image.Options{Seed: 5, Layers: []int64{1000}})
	for i := range tags {
		img.Tag = fmt.Sprintf("v1.%04d", i)
		both.push(t, img)
	}
	authorization := map[string]string{both.ferry.Host: bearerFor(t, both.reader, "bench/app", "pull")}
	list := func(l instance.Login) float64 {
		rate, _ := endpoint{l.Host, "/v2/bench/app/tags/list", authorization[l.Host]}.load(t, clients, 0, roundTime)
		return rate
	}
	own, theirs, ratio := compare(rounds, both.ferry, both.distribution, list)
	return []figure{rateFigure("lists of 1,000 tags, 8 clients, with a bearer token", 2.6, own, theirs, ratio)}
}

// freshConnections measures requests for a manifest over a new connection each. At Ferry, the
// client first gets a token over that connection.
func freshConnections(t *testing.T) []figure {
	const clients = 8
	both := startServers(t)
	img := image.New(t, image.Options{Seed: 6, Layers: []int64{1000}})
	both.push(t, img)
	get := func(l instance.Login) float64 {
		manifest := endpoint{host: l.Host, path: "/v2/bench/app/manifests/" + img.Tag}
		connect := func(context.Context) error {
			g, err := dialClient(l.Host, 8<<10)
			if err != nil {
				return err
			}
			defer g.conn.Close()
			asked := manifest
			if l.Host == both.ferry.Host {
				if asked.authorization, err = g.bearer(both.reader, "bench/app", "pull"); err != nil {
					return err
				}
			}
			_, err = g.get(asked.request())
			return err
		}
		return callsPerSecond(t, roundTime, slices.Repeat([]func(context.Context) error{connect}, clients))
	}
	own, theirs, ratio := compare(rounds, both.ferry, both.distribution, get)
	return []figure{rateFigure("token and manifest over a fresh connection, 8 clients; beside it the manifest alone",
		1.2, own, theirs, ratio)}
}

// pushes measures pushes of images with a layer of 4 MiB, one after the other.
func pushes(t *testing.T) []figure {
	const images = 40
	both := startServers(t)
	var made []*image.Image // the images of all rounds so far
	pushed := map[string]int{}
	push := func(l instance.Login) float64 {
		round := pushed[l.Host]
		pushed[l.Host]++
		if len(made) < pushed[l.Host]*images {
			for i := range images {
				made = append(made,
					image.New(t,
						image.Options{Seed: uint64(1000*(1+round) + i), Layers: []int64{4 << 20}, Plain: true}))
			}
		}
		start := time.Now()
		for _, img := range made[round*images:][:images] {
			if err := l.Push(t.Context(), "bench/app", img); err != nil {
				t.Fatal(err)
			}
		}
		return images / time.Since(start).Seconds()
	}
	own, theirs, ratio := compare(rounds, both.ferry, both.distribution, push)
	return []figure{rateFigure("pushes of an image with a layer of 4 MiB, 40 in turn", 1.4, own, theirs, ratio)}
}

// callsPerSecond makes each client do its work once, and repeatedly until some time has passed. It
// returns the calls per second.
func callsPerSecond(t *testing.T, each time.Duration, clients []func(context.Context) error) float64 {
	t.Helper()
	counts := make([]int, len(clients))
	start := time.Now()
	group, ctx := errgroup.WithContext(t.Context())
	for i, do := range clients {
		group.Go(func() error {
			for counts[i] == 0 || time.Since(start) < each {
				if err := do(ctx); err != nil {
					return err
				}
				counts[i]++
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, n := range counts {
		total += n
	}
	return float64(total) / time.Since(start).Seconds()
}
