//go:build bench

package bench

import (
	"context"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"ferry/test/daemon"
	"ferry/test/image"
	"ferry/test/site"
)

// shortTime is how long each round asks one server. A round of both is short, so
// that a change in the machine's speed falls on both.
const shortTime = 2 * time.Second

// servers are Ferry and CNCF distribution, each a process of its own.
type servers struct {
	ferry        site.Login // as administrator, who pushes
	reader       site.Login // of Ferry, a token that may pull
	distribution site.Login // without authentication
}

func startBoth(t *testing.T) servers {
	root := site.Start(t, site.Options{})
	reader := puller(t, root.Admin(t, "root"))
	reader.Host = root.Host
	return servers{
		ferry: root.AsAdmin(t), reader: reader,
		distribution: site.Login{Host: daemon.Distribution(t, tool(t, "registry"), "", "")},
	}
}

// push pushes an image to both.
func (s servers) push(t *testing.T, img *image.Image) {
	t.Helper()
	for _, l := range []site.Login{s.ferry, s.distribution} {
		if err := l.Push(t.Context(), "bench/app", img); err != nil {
			t.Fatal(err)
		}
	}
}

// perSecondFigure says how much Ferry and CNCF distribution do in a second. The
// ratio has to be atLeast.
func perSecondFigure(name string, atLeast, own, theirs, ratio float64) figure {
	return figure{
		name: name, ferry: fmt.Sprintf("%.0f/s", own),
		beside: fmt.Sprintf("CNCF distribution without authentication: %.0f/s", theirs),
		ratio:  fmt.Sprintf("%.2f", ratio), target: fmt.Sprint(atLeast), met: ratio >= atLeast,
	}
}

// tagList lists the 1,000 tags of a repository, with a bearer token at Ferry.
func tagList(t *testing.T) []figure {
	const clients, tags = 8, 1000
	both := startBoth(t)
	img := image.New(t, image.Options{Seed: 5, Layers: []int64{1000}})
	for i := range tags {
		img.Tag = fmt.Sprintf("v1.%04d", i)
		both.push(t, img)
	}
	authorization := map[string]string{both.ferry.Host: mustBearer(t, both.reader, "bench/app")}
	list := func(l site.Login) float64 {
		rate, _ := side{l.Host, "/v2/bench/app/tags/list", authorization[l.Host]}.load(t, clients, 0, shortTime)
		return rate
	}
	own, theirs, ratio := inTurn(rounds, both.ferry, both.distribution, list)
	return []figure{perSecondFigure("lists of 1,000 tags, 8 clients, with a bearer token", 2.6, own, theirs, ratio)}
}

// fresh gets a manifest over a connection that is made for it. At Ferry the
// client gets a token first, over the same connection.
func fresh(t *testing.T) []figure {
	const clients = 8
	both := startBoth(t)
	img := image.New(t, image.Options{Seed: 6, Layers: []int64{1000}})
	both.push(t, img)
	get := func(l site.Login) float64 {
		manifest := side{host: l.Host, path: "/v2/bench/app/manifests/" + img.Tag}
		return perSecond(t, clients, func(context.Context) error {
			g, err := newGetter(l.Host, 8<<10)
			if err != nil {
				return err
			}
			defer g.conn.Close()
			asked := manifest
			if l.Host == both.ferry.Host {
				if asked.authorization, err = g.bearer(both.reader, "bench/app"); err != nil {
					return err
				}
			}
			_, err = g.get(asked.request())
			return err
		})
	}
	own, theirs, ratio := inTurn(rounds, both.ferry, both.distribution, get)
	return []figure{perSecondFigure("token and manifest over a fresh connection, 8 clients; beside it the manifest alone", 1.2, own, theirs, ratio)}
}

// pushes sends images with a layer of 4 MiB, one after the other.
func pushes(t *testing.T) []figure {
	const images = 40
	both := startBoth(t)
	var made []*image.Image // a round's images, which both servers get
	pushed := map[string]int{}
	push := func(l site.Login) float64 {
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
	own, theirs, ratio := inTurn(rounds, both.ferry, both.distribution, push)
	return []figure{perSecondFigure("pushes of an image with a layer of 4 MiB, 40 in turn", 1.4, own, theirs, ratio)}
}

// perSecond lets clients call do again and again for [shortTime], and returns
// how many calls ended in a second.
func perSecond(t *testing.T, clients int, do func(ctx context.Context) error) float64 {
	t.Helper()
	counts := make([]int, clients)
	start := time.Now()
	group, ctx := errgroup.WithContext(t.Context())
	for i := range clients {
		group.Go(func() error {
			for time.Since(start) < shortTime {
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
