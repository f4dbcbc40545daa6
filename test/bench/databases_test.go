//go:build bench

package bench

import (
	"fmt"
	"testing"

	"ferry/test/cluster"
	"ferry/test/image"
	"ferry/test/instance"
)

// databases measures requests for a manifest by tag: to one process of a cluster, on PostgreSQL, and
// to an instance on SQLite.
func databases(t *testing.T) []figure {
	const clients = 16
	root := cluster.Start(t, cluster.Options{Direct: true})
	shared := root.Root().AsAdmin(t)
	shared.Host = root.Processes[0].Host
	single := instance.Start(t, instance.Options{}).AsAdmin(t)
	img := image.New(t, image.Options{Seed: 8, Layers: []int64{1000, 1000, 1000}})
	endpoints := map[instance.Login]endpoint{}
	for _, l := range []instance.Login{shared, single} {
		if err := l.Push(t.Context(), "bench/app", img); err != nil {
			t.Fatal(err)
		}
		path := "/v2/bench/app/manifests/" + img.Tag
		endpoints[l] = endpoint{l.Host, path, bearerFor(t, l, "bench/app", "pull")}
	}
	answers := func(l instance.Login) float64 {
		rate, _ := endpoints[l].load(t, clients, 0, roundTime)
		return rate
	}
	own, other, ratio := compare(rounds, shared, single, answers)
	const atLeast = 0.8
	return []figure{{
		name:  "manifests by tag, 16 clients: one of two processes on PostgreSQL, beside one on SQLite",
		ferry: fmt.Sprintf("%.0f/s", own), peer: fmt.Sprintf("SQLite: %.0f/s", other),
		ratio: fmt.Sprintf("%.2f", ratio), target: fmt.Sprint(atLeast), reached: ratio / atLeast,
	}}
}
