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
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"ferry/test/image"
	"ferry/test/instance"
)

var (
	fleetSizes = flag.String("sites", "1000,4000,10000", "numbers of connected registries of one process; 0 is none")
	sharedSize = flag.Int("shared", 10000, "number of connected registries of two processes; 0 is none")
	idleTime   = flag.Duration("idle", 2*time.Minute, "length of the idle phase")
)

// Time limits of a measurement and its phases.
const (
	fleetTimeout  = 17 * time.Minute // plus the idle time
	createTimeout = 8 * time.Minute
	phaseTimeout  = 5 * time.Minute
	notifyTimeout = time.Minute
	settleTimeout = 2 * time.Minute
)

// All children subscribe to one repository, and the first few also to another one.
const (
	repositoryForAll = "bench/all"
	repositoryForFew = "bench/ten"
	few              = 10
)

// TestFleet measures the load of many connected registries on their root: while they are idle,
// and when a change concerns all of them, or a few.
func TestFleet(t *testing.T) {
	var columns []sizeFigures
	for _, text := range strings.Split(*fleetSizes, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n <= few && n != 0 {
			t.Fatalf("-sites: %q is not 0 or a number above %d", text, few)
		}
		if n == 0 {
			continue
		}
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			columns = append(columns, sizeFigures{fmt.Sprintf("%d sites", n), measureFleet(t, n, 1)})
		})
	}
	if n := *sharedSize; n > 0 {
		t.Run("two-processes", func(t *testing.T) {
			columns = append(columns, sizeFigures{fmt.Sprintf("%d sites, two processes", n), measureFleet(t, n, 2)})
		})
	}
	if t.Failed() {
		return
	}
	for _, c := range columns {
		check(t, c.figures)
	}
	text := measuredWhereAndWhen(t) + fleetTable(columns)
	fmt.Print("\n", text)
	if *update && !t.Failed() {
		replaceBetween(t, "../../docs/performance.md", "fleet: make bench-fleet UPDATE=1", "end of fleet", text)
	}
}

// sizeFigures are the figures for one number of children.
type sizeFigures struct {
	name    string
	figures []figure
}

// fleetTable returns a table with a row for each figure, and a column for each number of
// children.
func fleetTable(columns []sizeFigures) string {
	var b strings.Builder
	head, line := "| case |", "|---|"
	for _, c := range columns {
		head, line = head+" "+c.name+" |", line+"---|"
	}
	b.WriteString(head + " target | met |\n" + line + "---|---|\n")
	for i, f := range columns[0].figures {
		b.WriteString("| " + f.name + " |")
		met := "yes"
		for _, c := range columns {
			b.WriteString(" " + c.figures[i].ferry + " |")
			if !c.figures[i].met() {
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

// A fleetRun is the measurement of one number of children.
type fleetRun struct {
	t         *testing.T
	root      fleetRoot
	fleet     *fleet
	idleShare float64 // of a core that the root used while it was idle
	figures   []figure
}

// measureFleet measures a root of so many processes with n connected registries. It creates the last
// one while the others poll, because a root has at most 10,000.
func measureFleet(t *testing.T, n, processes int) []figure {
	raiseFileLimit(t, uint64(n+n/2+4000)) // the root needs more than one for each connection
	ctx, cancel := context.WithTimeout(t.Context(), fleetTimeout+*idleTime)
	defer cancel()
	args := []string{"--max-connections", fmt.Sprint(2*n + 1000), "--trusted-proxies",
		"127.0.0.1"} // all children connect from this host
	r := &fleetRun{t: t, root: startFleetRoot(t, processes, args)}
	clients := r.root.clients()
	sh := clients.Admin(t, "root")
	sh.Run(t, "scope-map", "create", "--name", "pushers", "--repository", "bench/*", "content/read", "content/write")
	pusher := instance.Token(t, sh, "pusher", "pushers")
	pusher.Host = clients.Host
	for i, repository := range []string{repositoryForAll, repositoryForFew} {
		m := image.New(t, image.Options{Seed: uint64(200 + i), Layers: []int64{20 << 10}})
		if err := pusher.Push(ctx, repository, m); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if r.fleet, err = newFleet(r.root.hosts()); err != nil {
		t.Fatal(err)
	}
	api := newManagement(clients.AsAdmin(t))
	r.create(ctx, api, n-1)

	// Restart the root, so that the memory for creating the children is not counted.
	api.http.CloseIdleConnections()
	http.DefaultClient.CloseIdleConnections()
	r.root.restart(t)
	before := r.root.memory(t, "VmRSS")
	r.activate(ctx)
	r.firstPolls(ctx)
	defer r.fleet.end()
	r.idle(ctx, before)
	r.push(ctx, pusher, repositoryForAll, n-1)
	r.push(ctx, pusher, repositoryForFew, few)
	r.createOneMore(ctx, api)
	if err := r.fleet.end(); err != nil {
		t.Fatal(err)
	}
	f := r.fleet
	if err := f.lastRetry.Load(); err != nil {
		t.Logf("requests were retried, the last because of: %s", err)
	}
	t.Logf("%d polls answered; %d requests retried, %d answered with Retry-After; %.0f MiB resident at most",
		f.answered.Load(), f.retries.Load(), f.deferrals.Load(), mebibytes(r.root.memory(t, "VmHWM")))
	return r.figures
}

// A cost is the time that an operation took.
type cost struct {
	wall     time.Duration
	root     time.Duration // CPU time of the root's processes
	database time.Duration // CPU time of PostgreSQL
	bench    time.Duration // CPU time of this process
}

// measure returns the cost of do, and logs it. All figures come from here.
func (r *fleetRun) measure(name string, do func()) cost {
	r.t.Helper()
	start, root, database, bench := time.Now(), r.root.cpu(r.t), r.root.databaseCPU(), cpuOf(r.t, os.Getpid())
	do()
	c := cost{time.Since(start), r.root.cpu(r.t) - root, r.root.databaseCPU() - database,
		cpuOf(r.t, os.Getpid()) - bench}
	r.t.Logf("%s: %.2f s; processor time of the root %.2f s, of PostgreSQL %.2f s, of the benchmark %.2f s; "+
		"root has %.0f MiB resident", name, c.wall.Seconds(), c.root.Seconds(), c.database.Seconds(),
		c.bench.Seconds(), mebibytes(r.root.memory(r.t, "VmRSS")))
	return c
}

// perChild divides a time by a number of children.
func perChild(d time.Duration, n int) time.Duration { return d / time.Duration(n) }

// milliseconds formats a time for the table.
func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
}

func mebibytes(n int64) float64 { return float64(n) / (1 << 20) }

// addFigure adds a row. Without a target, reached is ignored.
func (r *fleetRun) addFigure(name, ferry, target string, reached float64) {
	r.figures = append(r.figures, figure{name: name, ferry: ferry, target: target, reached: reached})
}

// noneOf returns the share of the target that none of n children is affected. A few are a missed
// target, and a hundredth of all fails the benchmark.
func noneOf(affected int64, n int) float64 {
	if affected == 0 {
		return 1
	}
	return min(0.9, failBelow*share(float64(n)/100, float64(affected)))
}

// create creates n connected registries.
func (r *fleetRun) create(ctx context.Context, api *management, n int) {
	ctx, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	credentials := make([]credential, n)
	c := r.measure(fmt.Sprintf("create %d connected registries", n), func() {
		var all errgroup.Group
		all.SetLimit(8)
		for i := range n {
			all.Go(func() (err error) {
				repositories := []string{repositoryForAll}
				if i < few {
					repositories = append(repositories, repositoryForFew)
				}
				if err := api.createRegistry(ctx, childName(i), repositories); err != nil {
					return err
				}
				credentials[i], err = api.credential(ctx, childName(i))
				return err
			})
		}
		if err := all.Wait(); err != nil {
			r.t.Fatalf("create connected registries: %v", err)
		}
	})
	for i, c := range credentials {
		r.fleet.add(childName(i), c.User, c.Password)
	}
	r.addFigure("create a connected registry, and its password; 8 at a time",
		milliseconds(perChild(c.wall, n))+" each", "", 0)
}

func childName(i int) string { return fmt.Sprintf("site%05d", i) }

// activate activates all children at once.
func (r *fleetRun) activate(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, phaseTimeout)
	defer cancel()
	n := len(r.fleet.children)
	c := r.measure("activate all", func() {
		if err := r.fleet.activate(ctx); err != nil {
			r.t.Fatal(err)
		}
	})
	cpu := perChild(c.root, n)
	r.addFigure("activate all at once: processor time each", milliseconds(cpu), "2 ms",
		share(2*time.Millisecond, cpu))
	r.addFigure("activate all at once: until the last is activated", fmt.Sprintf("%.1f s", c.wall.Seconds()), "", 0)
}

// firstPolls makes all children read their listings, and then poll until the end.
func (r *fleetRun) firstPolls(ctx context.Context) {
	r.fleet.poll(ctx)
	c := r.measure("first polls", func() { r.waitUntilIdle(ctx) })
	r.addFigure("first listing, and the poll after it, of all at once: processor time each",
		milliseconds(perChild(c.root, len(r.fleet.children))), "", 0)
}

// waitUntilIdle waits until the root holds a poll of nearly every child, and uses little more
// CPU time than in the idle phase. It gives up after settleTimeout.
func (r *fleetRun) waitUntilIdle(ctx context.Context) {
	const tick, quietTicks = 250 * time.Millisecond, 3
	n := int64(len(r.fleet.children))
	deadline := time.Now().Add(settleTimeout)
	last, quiet := r.root.cpu(r.t), 0
	for quiet < quietTicks {
		if time.Now().After(deadline) {
			r.t.Logf("the root is not idle after %s: %d of %d polls are held, %d children wait because of Retry-After",
				settleTimeout, r.fleet.held.Load(), n, r.fleet.deferred.Load())
			return
		}
		r.sleep(ctx, tick)
		now := r.root.cpu(r.t)
		used := (now - last).Seconds() / tick.Seconds()
		last = now
		if used < min(max(0.05, 1.5*r.idleShare), 0.3) && r.fleet.held.Load() >= n-n/100 &&
			r.fleet.deferred.Load() == 0 {
			quiet++
		} else {
			quiet = 0
		}
	}
}

// sleep waits for d. It fails the test if the children or ctx end before.
func (r *fleetRun) sleep(ctx context.Context, d time.Duration) {
	r.t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.fleet.ended:
		r.t.Fatalf("the children ended: %v", r.fleet.end())
	case <-ctx.Done():
		r.t.Fatal(context.Cause(ctx))
	}
}

// idle measures the idle phase. before is the memory of the root without children.
func (r *fleetRun) idle(ctx context.Context, before int64) {
	n := len(r.fleet.children)
	early, answered := r.fleet.early.Load(), r.fleet.answered.Load()
	c := r.measure("idle", func() { r.sleep(ctx, *idleTime) })
	r.t.Logf("idle: %d polls answered, %d of them early",
		r.fleet.answered.Load()-answered, r.fleet.early.Load()-early)
	r.idleShare = c.root.Seconds() / c.wall.Seconds()
	used := fmt.Sprintf("%.1f %% of a core", 100*r.idleShare)
	if c.database > 0 {
		used += fmt.Sprintf("; PostgreSQL %.1f %%", 100*c.database.Seconds()/c.wall.Seconds())
	}
	r.addFigure("idle: processor time", used, "10 % of a core", share(0.1, r.idleShare))
	held := float64(r.root.memory(r.t, "VmRSS")-before) / float64(n) / (1 << 10)
	r.addFigure("idle: memory for each held poll", fmt.Sprintf("%.1f KiB", held), "64 KiB", share(64, held))
}

// push measures the push of a small image that concerns the first n children.
func (r *fleetRun) push(ctx context.Context, pusher instance.Login, repository string, n int) {
	r.waitUntilIdle(ctx)
	m := image.New(r.t, image.Options{Seed: uint64(300 + n), Tag: "v2", Layers: []int64{20 << 10}})
	for _, b := range m.Blobs() {
		if err := pusher.PushBlob(ctx, repository, m.Blob(b.Digest), b); err != nil {
			r.t.Fatal(err)
		}
	}
	a := r.fleet.expect(repository, n)
	c := r.measure(fmt.Sprintf("push that concerns %d", n), func() {
		if err := pusher.Push(ctx, repository, m); err != nil {
			r.t.Fatal(err)
		}
		select {
		case <-a.complete:
		case <-r.fleet.ended:
		case <-time.After(notifyTimeout):
		case <-ctx.Done():
		}
		r.waitUntilIdle(ctx)
	})
	name := fmt.Sprintf("push that concerns %d: ", n)
	if n == len(r.fleet.children) {
		name = "push that concerns all: "
	}
	r.addNotifyFigure(name, a)
	if n == len(r.fleet.children) {
		cpu := perChild(c.root, n)
		r.addFigure(name+"processor time each", milliseconds(cpu), "1 ms", share(time.Millisecond, cpu))
		return
	}
	r.addFigure(name+"processor time in all", milliseconds(c.root), "", 0)
	others := a.others.Load()
	r.addFigure(name+"polls of others that were answered", fmt.Sprint(others), "0",
		noneOf(others, len(r.fleet.children)))
}

// addNotifyFigure adds the time until the last child learned of a change.
func (r *fleetRun) addNotifyFigure(name string, a *expectedChange) {
	name += "until the last one learns of it"
	if left := a.missing.Load(); left > 0 {
		r.t.Logf("%s: %d requests retried so far", name, r.fleet.retries.Load())
		r.addFigure(name, fmt.Sprintf("%d have not after %.0f s", left, notifyTimeout.Seconds()), "5 s", 0)
		return
	}
	took := slices.Sorted(slices.Values(a.took))
	last := took[len(took)-1]
	r.t.Logf("%s: %.3f s, half of them in %.3f s", name, last.Seconds(), took[len(took)/2].Seconds())
	r.addFigure(name, fmt.Sprintf("%.2f s", last.Seconds()), "5 s", share(5*time.Second, last))
}

// createOneMore measures the creation of a connected registry while all others poll.
func (r *fleetRun) createOneMore(ctx context.Context, api *management) {
	if err := api.call(ctx, http.MethodGet, childName(0), nil, nil); err != nil { // the first login takes longer
		r.t.Fatal(err)
	}
	r.waitUntilIdle(ctx)
	a := r.fleet.expect("", 0)
	var took time.Duration
	c := r.measure("create one more", func() {
		start := time.Now()
		name := childName(len(r.fleet.children))
		if err := api.createRegistry(ctx, name, []string{repositoryForAll}); err != nil {
			r.t.Fatal(err)
		}
		took = time.Since(start)
		r.waitUntilIdle(ctx)
	})
	r.addFigure("create one more while all poll: the call", milliseconds(took), "", 0)
	r.addFigure("create one more while all poll: processor time in all", milliseconds(c.root), "", 0)
	others := a.others.Load()
	r.addFigure("create one more while all poll: polls that were answered", fmt.Sprint(others), "0",
		noneOf(others, len(r.fleet.children)))
}

// A management is an administrator's client of the root's management API.
type management struct {
	login instance.Login
	http  *http.Client
}

func newManagement(login instance.Login) *management {
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	return &management{login, &http.Client{Transport: transport, Timeout: 2 * time.Minute}}
}

// A credential is the sync token of a connected registry.
type credential struct {
	User     string `json:"SYNC_TOKEN_USER"`
	Password string `json:"SYNC_TOKEN_PASSWORD"`
}

func (m *management) createRegistry(ctx context.Context, name string, repositories []string) error {
	body := map[string]any{"mode": "ReadOnly", "repositories": repositories}
	return m.call(ctx, http.MethodPut, name, body, nil)
}

// credential generates a password for a connected registry.
func (m *management) credential(ctx context.Context, name string) (c credential, err error) {
	body := map[string]any{"parentProtocol": "http", "generatePassword": 1}
	err = m.call(ctx, http.MethodPost, name+"/settings", body, &c)
	return c, err
}

// call makes a request for a path below connected-registries, and decodes the response into v
// unless that is nil.
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
