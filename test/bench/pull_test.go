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
	"ferry/test/site"
)

// How many rounds of each side are measured, in turn. A round of blobs takes a
// third of a second, so only the median of many tells 2 % from nothing.
const (
	rounds     = 9
	blobRounds = 61
)

// blobs pulls a layer of 256 MiB, 4 at a time, from Ferry and, as the same
// file, from http.FileServer.
func blobs(t *testing.T) []figure {
	const clients, size = 4, 256 << 20
	root := site.Start(t, site.Options{})
	img := image.New(t, image.Options{Seed: 1, Layers: []int64{size}, Plain: true})
	admin := root.AsAdmin(t)
	if err := admin.Push(t.Context(), "bench/blob", img); err != nil {
		t.Fatal(err)
	}
	d := img.Manifest.Layers[0].Digest
	stored := filepath.Join(root.DataDir, "blobs", d.Algorithm().String())
	ferry := side{root.Host, "/v2/bench/blob/blobs/" + d.String(), mustBearer(t, admin, "bench/blob")}
	files, filesPID := startFileServer(t, stored)
	other := side{files, "/" + d.Encoded(), ""}

	ferry.load(t, clients, 1, 0) // the file is in the page cache from here on
	other.load(t, clients, 1, 0)
	pids := map[side]int{ferry: root.PID(), other: filesPID}
	spent := map[side][]float64{} // processor seconds of a server
	throughput := func(s side) float64 {
		before := cpuOf(t, pids[s])
		_, rate := s.load(t, clients, 1, 0)
		spent[s] = append(spent[s], (cpuOf(t, pids[s]) - before).Seconds())
		return rate
	}
	own, theirs, ratio := inTurn(blobRounds, ferry, other, throughput)
	const round = float64(clients*size) / (1 << 30) // GiB
	ownCPU, theirCPU := median(spent[ferry])/round, median(spent[other])/round
	return []figure{{
		name:   "pulls of a 256 MiB layer, 4 at a time",
		ferry:  fmt.Sprintf("%.2f GiB/s, %.0f ms of CPU for each GiB", own/(1<<30), ownCPU*1e3),
		beside: fmt.Sprintf("`http.FileServer` on the same file: %.2f GiB/s, %.0f ms", theirs/(1<<30), theirCPU*1e3),
		ratio:  fmt.Sprintf("%.2f", ratio),
		target: "as fast, within 2 %",
		// The rate varies by some 10 % from round to round, also of one server with
		// itself, and the processor time by less.
		met: max(ratio, theirCPU/ownCPU) >= 0.98,
	}}
}

// inTurn measures both sides in n rounds, each of which the other side begins,
// and returns the sides' medians and the median of the rounds' ratios: what
// slows the machine down for a while slows down both.
func inTurn[S any](n int, ferry, other S, measure func(S) float64) (own, theirs, ratio float64) {
	var owns, others, ratios []float64
	for i := range n {
		var a, b float64
		if i%2 == 0 {
			a, b = measure(ferry), measure(other)
		} else {
			b, a = measure(other), measure(ferry)
		}
		owns, others, ratios = append(owns, a), append(others, b), append(ratios, a/b)
	}
	return median(owns), median(others), median(ratios)
}

// fileServerEnv makes this program a file server for the directory it names.
const fileServerEnv = "FERRY_BENCH_FILES"

// startFileServer runs http.FileServer as a process of its own, as Ferry is,
// and returns its host:port and its process.
func startFileServer(t *testing.T, dir string) (host string, pid int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fileServerEnv+"="+dir)
	host = daemon.Start(t, cmd, func(line string) string { return line })
	return host, cmd.Process.Pid
}

func serveFiles(dir string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Fprintln(os.Stderr, l.Addr())
	panic(http.Serve(l, http.FileServer(http.Dir(dir))))
}

// manifests gets a manifest by its tag: from Ferry with a bearer token, and
// from CNCF distribution without any authentication.
func manifests(t *testing.T) []figure {
	const clients = 8
	const each = 3 * time.Second
	root := site.Start(t, site.Options{})
	admin := root.AsAdmin(t)
	img := image.New(t, image.Options{Seed: 2, Layers: []int64{1000, 1000, 1000}})
	distribution := site.Login{Host: daemon.Distribution(t, tool(t, "registry"), "", "")}
	for _, l := range []site.Login{admin, distribution} {
		if err := l.Push(t.Context(), "bench/app", img); err != nil {
			t.Fatal(err)
		}
	}
	path := "/v2/bench/app/manifests/" + img.Tag
	ferry := side{root.Host, path, mustBearer(t, admin, "bench/app")}
	other := side{distribution.Host, path, ""}
	answers := func(s side) float64 { rate, _ := s.load(t, clients, 0, each); return rate }
	own, theirs, ratio := inTurn(rounds, ferry, other, answers)
	return []figure{perSecondFigure("manifests by tag, 8 clients, with a bearer token", 3.5, own, theirs, ratio)}
}
