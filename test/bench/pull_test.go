//go:build bench

package bench

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"ferry/test/daemon"
	"ferry/test/image"
	"ferry/test/instance"
)

// The number of rounds for each server. A round of blobs takes a third of a second, so that a
// difference of 2 % shows only in the median of many rounds.
const (
	rounds     = 9
	blobRounds = 61
)

// blobs measures pulls of a layer of 256 MiB, 4 at a time, from Ferry and from http.FileServer,
// which serves the same file.
func blobs(t *testing.T) []figure {
	const clients, size = 4, 256 << 20
	root := instance.Start(t, instance.Options{})
	img := image.New(t, image.Options{Seed: 1, Layers: []int64{size}, Plain: true})
	admin := root.AsAdmin(t)
	if err := admin.Push(t.Context(), "bench/blob", img); err != nil {
		t.Fatal(err)
	}
	d := img.Manifest.Layers[0].Digest
	stored := filepath.Join(root.DataDir, "blobs", d.Algorithm().String())
	ferry := endpoint{root.Host, "/v2/bench/blob/blobs/" + d.String(), bearerFor(t, admin, "bench/blob", "pull")}
	files, filesPID := startFileServer(t, stored)
	other := endpoint{files, "/" + d.Encoded(), ""}

	ferry.load(t, clients, 1, 0) // reads the file into the page cache
	other.load(t, clients, 1, 0)
	pids := map[endpoint]int{ferry: root.PID(), other: filesPID}
	spent := map[endpoint][]float64{} // CPU seconds of a server
	throughput := func(s endpoint) float64 {
		before := cpuOf(t, pids[s])
		_, rate := s.load(t, clients, 1, 0)
		spent[s] = append(spent[s], (cpuOf(t, pids[s]) - before).Seconds())
		return rate
	}
	own, theirs, ratio := compare(blobRounds, ferry, other, throughput)
	const round = float64(clients*size) / (1 << 30) // GiB
	ownCPU, theirCPU := median(spent[ferry])/round, median(spent[other])/round
	return []figure{{
		name:   "pulls of a 256 MiB layer, 4 at a time",
		ferry:  fmt.Sprintf("%.2f GiB/s, %.0f ms of CPU for each GiB", own/(1<<30), ownCPU*1e3),
		peer:   fmt.Sprintf("`http.FileServer` on the same file: %.2f GiB/s, %.0f ms", theirs/(1<<30), theirCPU*1e3),
		ratio:  fmt.Sprintf("%.2f", ratio),
		target: "as fast, within 2 %",
		// The rate of a server varies by about 10 % from round to round, its CPU time by
		// less.
		reached: max(ratio, theirCPU/ownCPU) / 0.98,
	}}
}

// compare measures two servers in n rounds, and returns the median of each and the median of
// the ratios. Both are measured in each round, in alternating order, so that a slow machine
// affects both.
func compare[S any](n int, ferry, peer S, measure func(S) float64) (own, theirs, ratio float64) {
	var owns, others, ratios []float64
	for i := range n {
		var a, b float64
		if i%2 == 0 {
			a, b = measure(ferry), measure(peer)
		} else {
			b, a = measure(peer), measure(ferry)
		}
		owns, others, ratios = append(owns, a), append(others, b), append(ratios, a/b)
	}
	return median(owns), median(others), median(ratios)
}

// fileServerEnv names a directory that this program serves instead of running tests.
const fileServerEnv = "FERRY_BENCH_FILES"

// startFileServer runs http.FileServer in a process of its own, like Ferry, and returns its
// host:port and its process ID.
func startFileServer(t *testing.T, dir string) (host string, pid int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fileServerEnv+"="+dir)
	host = daemon.Start(t, cmd, func(line string) string { return line })
	return host, cmd.Process.Pid
}

func runFileServer(dir string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Fprintln(os.Stderr, l.Addr())
	panic(http.Serve(l, http.FileServer(http.Dir(dir))))
}

// manifests measures requests for a manifest by tag: to Ferry with a bearer token, and to CNCF
// distribution without authentication.
func manifests(t *testing.T) []figure {
	const clients = 8
	const each = 3 * time.Second
	root := instance.Start(t, instance.Options{})
	admin := root.AsAdmin(t)
	img := image.New(t, image.Options{Seed: 2, Layers: []int64{1000, 1000, 1000}})
	distribution := instance.Login{Host: daemon.Distribution(t, tool(t, "registry"), daemon.DistributionConfig{})}
	for _, l := range []instance.Login{admin, distribution} {
		if err := l.Push(t.Context(), "bench/app", img); err != nil {
			t.Fatal(err)
		}
	}
	path := "/v2/bench/app/manifests/" + img.Tag
	ferry := endpoint{root.Host, path, bearerFor(t, admin, "bench/app", "pull")}
	other := endpoint{distribution.Host, path, ""}
	answers := func(s endpoint) float64 { rate, _ := s.load(t, clients, 0, each); return rate }
	own, theirs, ratio := compare(rounds, ferry, other, answers)
	return []figure{rateFigure("manifests by tag, 8 clients, with a bearer token", 3.5, own, theirs, ratio)}
}
