package deploy

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"ferry/test/image"
	"ferry/test/instance"
)

// Scrapes are the metrics of real instances: a root with a mirror rule that fails and a connected
// registry, and that connected registry, which has a problem and a certificate.
type scrapes struct{ root, child string }

const timeout = time.Minute

// scrape runs the instances and reads their metrics.
func scrape(t *testing.T) scrapes {
	t.Helper()
	root := instance.Start(t, instance.Options{})
	admin := root.Admin(t, "home")
	admin.Run(t, "mirror", "create", "--name", "alpine", "--repository", "mirrors/alpine",
		"--source", "http://127.0.0.1:1/library/alpine")
	// Its budget is too small for the image, which is a problem that it reports.
	connection := instance.Connect(t, admin, "ship1", root.Host, []string{"factory/*"}, "--byte-budget", "1MiB/day")
	login := root.AsAdmin(t)
	for _, seed := range []uint64{1, 2, 3} {
		m := image.New(t, image.Options{Seed: seed, Layers: []int64{1 << 20}})
		if err := login.Push(t.Context(), "factory/app"+string('a'+rune(seed)), m); err != nil {
			t.Fatal(err)
		}
	}
	child := instance.Start(t, connection.Options(instance.Options{Args: []string{"--tls", "own-ca"}}))
	var all scrapes
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	for {
		all = scrapes{metrics(ctx, t, root), metrics(ctx, t, child)}
		if strings.Contains(all.root, `ferry_connected_registry_problem{code="BudgetSpent"`) &&
			strings.Contains(all.child, `ferry_sync_problem{code="BudgetSpent"`) {
			return all
		}
		select {
		case <-ctx.Done():
			t.Fatalf("no problem is reported:\n%s\n%s", all.root, all.child)
		case <-time.After(100 * time.Millisecond): // waits for other processes
		}
	}
}

// metrics returns all metrics of an instance.
func metrics(ctx context.Context, t *testing.T, s *instance.Instance) string {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("admin", s.AdminPassword(t))
	c := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true,
	}}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v\n%s", resp.Status, err, text)
	}
	return string(text)
}

var metricType = regexp.MustCompile(`(?m)^# TYPE (ferry_\w+) `)

// names returns the names of Ferry's metrics in a scrape.
func names(scrape string) (all []string) {
	for _, m := range metricType.FindAllStringSubmatch(scrape, -1) {
		all = append(all, m[1])
	}
	return all
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile("../../" + path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestMetricsOfRealInstances(t *testing.T) {
	s := scrape(t)
	t.Run("are those of the docs", s.testDocs)
	t.Run("include those in use", s.testUse)
}

func (s scrapes) testDocs(t *testing.T) {
	root, child := names(s.root), names(s.child)
	row := regexp.MustCompile("(?m)^\\| (`ferry_[^|]*) \\|[^|]*\\| (\\w+) \\|")
	metric := regexp.MustCompile("`(ferry_\\w+)`")
	documented := map[string]string{}
	for _, m := range row.FindAllStringSubmatch(read(t, "docs/operations.md"), -1) {
		for _, name := range metric.FindAllStringSubmatch(m[1], -1) {
			documented[name[1]] = m[2]
		}
	}
	at := map[string][2]bool{ // the instances of this test that have a metric
		"all": {true, true}, "root": {true, false}, "parent": {true, false},
		"site": {false, true}, "TLS": {false, true},
		"bucket": {false, false}, // the tests of internal/server with an object store compare them
	}
	for name, where := range documented {
		want, ok := at[where]
		if got := [2]bool{slices.Contains(root, name), slices.Contains(child, name)}; !ok || got != want {
			t.Errorf("%s is documented for %q; root has it: %t, site has it: %t", name, where, got[0], got[1])
		}
	}
	for _, name := range slices.Concat(root, child) {
		if documented[name] == "" {
			t.Errorf("docs/operations.md does not name %s", name)
		}
	}
	for _, text := range []string{s.root, s.child} {
		promtool(t, text, "check", "metrics")
	}
}

// promtool runs Prometheus' own checks, if the program is there. In CI it must be.
func promtool(t *testing.T, stdin string, args ...string) {
	t.Helper()
	program, err := exec.LookPath("promtool")
	if err != nil && os.Getenv("CI") != "true" {
		t.Skip("promtool, of the package prometheus, is not installed")
	} else if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, &out)
	}
}
