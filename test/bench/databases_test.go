//go:build bench

package bench

import (
	"fmt"
	"testing"

	"ferry/test/cluster"
	"ferry/test/image"
	"ferry/test/instance"
)

// databases measures requests for a manifest by tag: to a root of one process on PostgreSQL, to one of two
// processes, and each time to an instance on SQLite.
func databases(t *testing.T) (figures []figure) {
	const clients = 16
	img := image.New(t, image.Options{Seed: 8, Layers: []int64{1000, 1000, 1000}})
	tagOf := func(l instance.Login) endpoint {
		if err := l.Push(t.Context(), "bench/app", img); err != nil {
			t.Fatal(err)
		}
		return endpoint{l.Host, "/v2/bench/app/manifests/" + img.Tag, bearerFor(t, l, "bench/app", "pull")}
	}
	sqlite := tagOf(instance.Start(t, instance.Options{}).AsAdmin(t))
	answers := func(e endpoint) float64 {
		rate, _ := e.load(t, clients, 0, roundTime)
		return rate
	}
	for n, root := range []string{"a root of one process", "one of two processes"} {
		c := cluster.Start(t, cluster.Options{Processes: n + 1, Direct: true})
		login := c.Root().AsAdmin(t)
		login.Host = c.Processes[0].Host
		own, other, ratio := compare(rounds, tagOf(login), sqlite, answers)
		const atLeast = 0.8
		figures = append(figures, figure{
			name:  fmt.Sprintf("manifests by tag, %d clients: %s on PostgreSQL, beside one on SQLite", clients, root),
			ferry: fmt.Sprintf("%.0f/s", own), peer: fmt.Sprintf("SQLite: %.0f/s", other),
			ratio: fmt.Sprintf("%.2f", ratio), target: fmt.Sprint(atLeast), reached: ratio / atLeast,
		})
	}
	return figures
}
