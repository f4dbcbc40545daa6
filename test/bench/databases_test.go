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
// processes, whose requests share questions to the database, and each time to an instance on SQLite.
func databases(t *testing.T) (figures []figure) {
	img := image.New(t, image.Options{Seed: 8, Layers: []int64{1000, 1000, 1000}})
	tagOf := func(l instance.Login) endpoint {
		if err := l.Push(t.Context(), "bench/app", img); err != nil {
			t.Fatal(err)
		}
		return endpoint{l.Host, "/v2/bench/app/manifests/" + img.Tag, bearerFor(t, l, "bench/app", "pull")}
	}
	sqlite := tagOf(instance.Start(t, instance.Options{}).AsAdmin(t))
	for _, c := range []struct {
		root               string
		processes, clients int
	}{
		{"a root of one process", 1, 64},
		{"one of two processes", 2, 64},
		{"one of two processes", 2, 16},
	} {
		root := cluster.Start(t, cluster.Options{Processes: c.processes, Direct: true})
		login := root.Root().AsAdmin(t)
		login.Host = root.Processes[0].Host
		own, other, ratio := compare(rounds, tagOf(login), sqlite, func(e endpoint) float64 {
			rate, _ := e.load(t, c.clients, 0, roundTime)
			return rate
		})
		const atLeast = 0.8
		figures = append(figures, figure{
			name: fmt.Sprintf("manifests by tag, %d clients: %s on PostgreSQL, beside one on SQLite",
				c.clients, c.root),
			ferry: fmt.Sprintf("%.0f/s", own), peer: fmt.Sprintf("SQLite: %.0f/s", other),
			ratio: fmt.Sprintf("%.2f", ratio), target: fmt.Sprint(atLeast), reached: ratio / atLeast,
		})
	}
	return figures
}
