//go:build bench

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"ferry/test/daemon"
	"ferry/test/image"
	"ferry/test/site"
)

var (
	fleetSizes = flag.String("sites", "1000,4000,10000", "numbers of connected registries to measure")
	idleFor    = flag.Duration("idle", 2*time.Minute, "how long they have nothing to do")
)

// Limits in time on one measurement, and on its parts.
const (
	fleetPatience  = 17 * time.Minute // and the idle time on top
	createPatience = 8 * time.Minute
	phasePatience  = 5 * time.Minute
	heardPatience  = time.Minute
	settlePatience = 2 * time.Minute
)

// What the sites are subscribed to: all of them to one repository, and the
// first few to another one too.
const (
	repositoryOfAll = "bench/all"
	repositoryOfTen = "bench/ten"
	fewSites        = 10
)

// TestFleet measures what many connected registries cost their root: while
// there is nothing to do, and when something concerns all of them, or a few.
func TestFleet(t *testing.T) {
	var columns []column
	for _, text := range strings.Split(*fleetSizes, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n <= fewSites {
			t.Fatalf("-sites: %q is no number above %d", text, fewSites)
		}
		t.Run(strconv.Itoa(n), func(t *testing.T) { columns = append(columns, column{n, measureFleet(t, n)}) })
	}
	if t.Failed() {
		return
	}
	text := measuredOn(t) + fleetTable(columns)
	fmt.Print("\n", text)
	if *update {
		insert(t, "../../docs/performance.md", "fleet: make bench-fleet UPDATE=1", "end of fleet", text)
	}
}

// A column is the figures of one number of sites.
type column struct {
	sites   int
	figures []figure
}

// fleetTable has a row for each figure, and a column for each number of sites.
func fleetTable(columns []column) string {
	var b strings.Builder
	head, line := "| case |", "|---|"
	for _, c := range columns {
		head, line = head+fmt.Sprintf(" %d sites |", c.sites), line+"---|"
	}
	b.WriteString(head + " target | met |\n" + line + "---|---|\n")
	for i, f := range columns[0].figures {
		b.WriteString("| " + f.name + " |")
		met := "yes"
		for _, c := range columns {
			b.WriteString(" " + c.figures[i].ferry + " |")
			if !c.figures[i].met {
				met = "**no**"
			}
		}
		if f.target == "" {
			met = ""
		}
		b.WriteString(" " + f.target + " | " + met + " |\n")
	}
	return b.String()
}

// A fleetRun is one measurement.
type fleetRun struct {
	t       *testing.T
	root    *site.Site
	fleet   *fleet
	share   float64 // of a core, that the root used while it had nothing to do
	figures []figure
}

// measureFleet measures a root with n connected registries. The last of them
// is made while the others poll: a root has no more than 10,000.
func measureFleet(t *testing.T, n int) []figure {
	allowFiles(t, 2*uint64(n)+4000) // the root accepts fewer connections than it may open files
	ctx, cancel := context.WithTimeout(t.Context(), fleetPatience+*idleFor)
	defer cancel()
	options := site.Options{
		DataDir: filepath.Join(t.TempDir(), "data"), Listen: daemon.FreeAddress(t),
		Args: []string{"--max-connections", fmt.Sprint(2*n + 1000), "--trusted-proxies",
			"127.0.0.1"}, // all of one address
	}
	r := &fleetRun{t: t, root: site.Start(t, options)}
	sh := r.root.Admin(t, "root")
	sh.Run(t, "scope-map", "create", "--name", "pushers", "--repository", "bench/*", "content/read", "content/write")
	pusher := site.Token(t, sh, "pusher", "pushers")
	pusher.Host = r.root.Host
	for i, repository := range []string{repositoryOfAll, repositoryOfTen} {
		m := image.New(t, image.Options{Seed: uint64(200 + i), Layers: []int64{20 << 10}})
		if err := pusher.Push(ctx, repository, m); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if r.fleet, err = newFleet(r.root.Host); err != nil {
		t.Fatal(err)
	}
	api := newManagement(r.root.AsAdmin(t))
	r.create(ctx, api, n-1)

	// The memory that it took to create them is none of theirs.
	api.http.CloseIdleConnections()
	http.DefaultClient.CloseIdleConnections()
	r.root.Stop(t)
	r.root = site.Start(t, options)
	before := memoryOf(t, r.root.PID(), "VmRSS")
	r.activate(ctx)
	r.follow(ctx)
	defer r.fleet.end()
	r.idle(ctx, before)
	r.push(ctx, pusher, repositoryOfAll, n-1)
	r.push(ctx, pusher, repositoryOfTen, fewSites)
	r.createOneMore(ctx, api)
	if err := r.fleet.end(); err != nil {
		t.Fatal(err)
	}
	f := r.fleet
	if why := f.trouble.Load(); why != nil {
		t.Logf("requests were tried again, the last because of: %s", why)
	}
	t.Logf("%d polls answered; %d requests tried again, %d put off by the root; %.0f MiB resident at most",
		f.answered.Load(), f.retried.Load(), f.refused.Load(), mebibytes(memoryOf(t, r.root.PID(), "VmHWM")))
	return r.figures
}

// A cost is what something took.
type cost struct {
	wall  time.Duration
	root  time.Duration // processor time of the root
	bench time.Duration // and of this process
}

// measure returns what it costs to do something. Every figure comes from
// here, so the log has all there is to know of it.
func (r *fleetRun) measure(what string, do func()) cost {
	r.t.Helper()
	start, root, bench := time.Now(), cpuOf(r.t, r.root.PID()), cpuOf(r.t, os.Getpid())
	do()
	c := cost{time.Since(start), cpuOf(r.t, r.root.PID()) - root, cpuOf(r.t, os.Getpid()) - bench}
	r.t.Logf("%s: %.2f s; processor time of the root %.2f s, of the benchmark %.2f s; root has %.0f MiB resident",
		what, c.wall.Seconds(), c.root.Seconds(), c.bench.Seconds(), mebibytes(memoryOf(r.t, r.root.PID(), "VmRSS")))
	return c
}

// each is a time divided by a number of sites.
func each(d time.Duration, n int) time.Duration { return d / time.Duration(n) }

// milliseconds writes a time for the table.
func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
}

func mebibytes(n int64) float64 { return float64(n) / (1 << 20) }

// note adds a row. One without a target is met.
func (r *fleetRun) note(name, ferry, target string, met bool) {
	r.figures = append(r.figures, figure{name: name, ferry: ferry, target: target, met: met})
}

// create makes n connected registries.
func (r *fleetRun) create(ctx context.Context, api *management, n int) {
	ctx, cancel := context.WithTimeout(ctx, createPatience)
	defer cancel()
	credentials := make([]credential, n)
	c := r.measure(fmt.Sprintf("create %d connected registries", n), func() {
		var all errgroup.Group
		all.SetLimit(8)
		for i := range n {
			all.Go(func() (err error) {
				repositories := []string{repositoryOfAll}
				if i < fewSites {
					repositories = append(repositories, repositoryOfTen)
				}
				if err := api.createRegistry(ctx, siteName(i), repositories); err != nil {
					return err
				}
				credentials[i], err = api.credential(ctx, siteName(i))
				return err
			})
		}
		if err := all.Wait(); err != nil {
			r.t.Fatalf("create connected registries: %v", err)
		}
	})
	for i, c := range credentials {
		r.fleet.add(siteName(i), c.User, c.Password)
	}
	r.note("create a connected registry, and its password; 8 at a time",
		milliseconds(each(c.wall, n))+" each", "", true)
}

func siteName(i int) string { return fmt.Sprintf("site%05d", i) }

// activate activates all sites at once.
func (r *fleetRun) activate(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, phasePatience)
	defer cancel()
	n := len(r.fleet.sites)
	c := r.measure("activate all", func() {
		if err := r.fleet.activate(ctx); err != nil {
			r.t.Fatal(err)
		}
	})
	cpu := each(c.root, n)
	r.note("activate all at once: processor time each", milliseconds(cpu), "2 ms", cpu <= 2*time.Millisecond)
	r.note("activate all at once: until the last is activated", fmt.Sprintf("%.1f s", c.wall.Seconds()), "", true)
}

// follow lets all sites learn what they are to have, and then poll.
func (r *fleetRun) follow(ctx context.Context) {
	r.fleet.follow(ctx)
	c := r.measure("first polls", func() { r.settle(ctx) })
	r.note("first listing, and the poll after it, of all at once: processor time each",
		milliseconds(each(c.root, len(r.fleet.sites))), "", true)
}

// settle waits until every site has a poll that waits for an answer, and the
// root does no more than polls that end for nothing need. It gives up after a
// while, since a root may never rest.
func (r *fleetRun) settle(ctx context.Context) {
	const tick, rests = 250 * time.Millisecond, 3
	n := int64(len(r.fleet.sites))
	deadline := time.Now().Add(settlePatience)
	last, quiet := cpuOf(r.t, r.root.PID()), 0
	for quiet < rests {
		if time.Now().After(deadline) {
			r.t.Logf("the root did not rest within %s: %d of %d polls wait for an answer, %d sites were told to come later",
				settlePatience, r.fleet.holding.Load(), n, r.fleet.paused.Load())
			return
		}
		r.wait(ctx, tick)
		now := cpuOf(r.t, r.root.PID())
		used := (now - last).Seconds() / tick.Seconds()
		last = now
		if used < min(max(0.05, 1.5*r.share), 0.3) && r.fleet.holding.Load() >= n-n/100 && r.fleet.paused.Load() == 0 {
			quiet++
		} else {
			quiet = 0
		}
	}
}

// wait waits for d, and fails the test when the sites, or the time for the
// measurement, ended before.
func (r *fleetRun) wait(ctx context.Context, d time.Duration) {
	r.t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.fleet.over:
		r.t.Fatalf("the sites ended: %v", r.fleet.end())
	case <-ctx.Done():
		r.t.Fatal(context.Cause(ctx))
	}
}

// idle leaves all sites with nothing to do. before is the memory that the
// root had when it had none.
func (r *fleetRun) idle(ctx context.Context, before int64) {
	n := len(r.fleet.sites)
	early, answered := r.fleet.early.Load(), r.fleet.answered.Load()
	c := r.measure("idle", func() { r.wait(ctx, *idleFor) })
	r.t.Logf("idle: %d polls answered, %d of them before their time",
		r.fleet.answered.Load()-answered, r.fleet.early.Load()-early)
	r.share = c.root.Seconds() / c.wall.Seconds()
	r.note("idle: processor time", fmt.Sprintf("%.1f %% of a core", 100*r.share), "10 % of a core", r.share <= 0.1)
	held := float64(memoryOf(r.t, r.root.PID(), "VmRSS")-before) / float64(n) / (1 << 10)
	r.note("idle: memory for each held poll", fmt.Sprintf("%.1f KiB", held), "64 KiB", held <= 64)
}

// push pushes a small image that concerns the first n sites.
func (r *fleetRun) push(ctx context.Context, pusher site.Login, repository string, n int) {
	r.settle(ctx)
	m := image.New(r.t, image.Options{Seed: uint64(300 + n), Tag: "v2", Layers: []int64{20 << 10}})
	for _, b := range m.Blobs() {
		if err := pusher.PushBlob(ctx, repository, m.Blob(b.Digest), b); err != nil {
			r.t.Fatal(err)
		}
	}
	a := r.fleet.await(repository, n)
	c := r.measure(fmt.Sprintf("push that concerns %d", n), func() {
		if err := pusher.Push(ctx, repository, m); err != nil {
			r.t.Fatal(err)
		}
		select {
		case <-a.all:
		case <-r.fleet.over:
		case <-time.After(heardPatience):
		case <-ctx.Done():
		}
		r.settle(ctx)
	})
	name := fmt.Sprintf("push that concerns %d: ", n)
	if n == len(r.fleet.sites) {
		name = "push that concerns all: "
	}
	r.noteHeard(name, a)
	if n == len(r.fleet.sites) {
		cpu := each(c.root, n)
		r.note(name+"processor time each", milliseconds(cpu), "1 ms", cpu <= time.Millisecond)
		return
	}
	r.note(name+"processor time in all", milliseconds(c.root), "", true)
	others := a.others.Load()
	r.note(name+"polls of others that were answered", fmt.Sprint(others), "0", others == 0)
}

// noteHeard adds how long it took until the last site heard.
func (r *fleetRun) noteHeard(name string, a *awaited) {
	name += "until the last has heard"
	if left := a.left.Load(); left > 0 {
		r.t.Logf("%s: %d requests tried again so far", name, r.fleet.retried.Load())
		r.note(name, fmt.Sprintf("%d have not after %.0f s", left, heardPatience.Seconds()), "5 s", false)
		return
	}
	took := slices.Sorted(slices.Values(a.took))
	last := took[len(took)-1]
	r.t.Logf("%s: %.3f s, half of them in %.3f s", name, last.Seconds(), took[len(took)/2].Seconds())
	r.note(name, fmt.Sprintf("%.2f s", last.Seconds()), "5 s", last <= 5*time.Second)
}

// createOneMore makes a connected registry while all others poll.
func (r *fleetRun) createOneMore(ctx context.Context, api *management) {
	if err := api.call(ctx, http.MethodGet, siteName(0), nil, nil); err != nil { // the first login takes longer
		r.t.Fatal(err)
	}
	r.settle(ctx)
	a := r.fleet.await("", 0)
	var took time.Duration
	c := r.measure("create one more", func() {
		start := time.Now()
		name := siteName(len(r.fleet.sites))
		if err := api.createRegistry(ctx, name, []string{repositoryOfAll}); err != nil {
			r.t.Fatal(err)
		}
		took = time.Since(start)
		r.settle(ctx)
	})
	r.note("create one more while all poll: the call", milliseconds(took), "", true)
	r.note("create one more while all poll: processor time in all", milliseconds(c.root), "", true)
	others := a.others.Load()
	r.note("create one more while all poll: polls that were answered", fmt.Sprint(others), "0", others == 0)
}

// A management is a root's management API as its administrator uses it.
type management struct {
	login site.Login
	http  *http.Client
}

func newManagement(login site.Login) *management {
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	return &management{login, &http.Client{Transport: transport, Timeout: 2 * time.Minute}}
}

// A credential is what a connected registry logs in to its parent with.
type credential struct {
	User     string `json:"SYNC_TOKEN_USER"`
	Password string `json:"SYNC_TOKEN_PASSWORD"`
}

func (m *management) createRegistry(ctx context.Context, name string, repositories []string) error {
	body := map[string]any{"mode": "ReadOnly", "repositories": repositories}
	return m.call(ctx, http.MethodPut, name, body, nil)
}

// credential makes a password for a connected registry.
func (m *management) credential(ctx context.Context, name string) (c credential, err error) {
	body := map[string]any{"parentProtocol": "http", "generatePassword": 1}
	err = m.call(ctx, http.MethodPost, name+"/settings", body, &c)
	return c, err
}

// call asks for a connected registry with the path below all of them, and
// reads the answer into v unless that is nil.
func (m *management) call(ctx context.Context, method, path string, body, v any) error {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return err
		}
	}
	url := "http://" + m.login.Host + "/api/v1/connected-registries/" + path
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.SetBasicAuth(m.login.User, m.login.Password)
	resp, err := m.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", method, url, resp.Status, answer)
	}
	if v == nil {
		return nil
	}
	return json.Unmarshal(answer, v)
}
