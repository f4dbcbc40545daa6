package deploy

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

const (
	rulesFile     = "deploy/prometheus/ferry.rules.yml"
	dashboardFile = "deploy/grafana/ferry.json"
)

// ruleTestsFiles is never written.
var ruleTestsFiles = []string{"deploy/prometheus/ferry.rules.test.yml", "deploy/prometheus/ferry.rules.days.test.yml"}

// A ruleFile is the part of a file with rules that the tests use.
type ruleFile struct {
	Groups []struct {
		Name  string `yaml:"name"`
		Rules []rule `yaml:"rules"`
	} `yaml:"groups"`
}

type rule struct {
	Record      string            `yaml:"record,omitempty"`
	Alert       string            `yaml:"alert,omitempty"`
	Expr        string            `yaml:"expr"`
	Labels      map[string]string `yaml:"labels,omitempty"`
	Annotations map[string]string `yaml:"annotations,omitempty"`
}

func rules(t *testing.T) (all []rule) {
	t.Helper()
	var f ruleFile
	decode(t, rulesFile, &f)
	for _, g := range f.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) < 10 {
		t.Fatalf("%s has %d rules", rulesFile, len(all))
	}
	return all
}

func decode(t *testing.T, path string, v any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(read(t, path)), v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// A dashboard is the part of Grafana's dashboard that the tests use.
type dashboard struct {
	Title         string
	UID           string
	SchemaVersion int
	Panels        []panel
	Templating    struct {
		List []struct{ Name, Definition string }
	}
}

type panel struct {
	ID          int
	Type, Title string
	GridPos     struct{ X, Y, W, H int }
	Targets     []struct{ RefID, Expr string }
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	if err := json.Unmarshal([]byte(read(t, dashboardFile)), &d); err != nil {
		t.Fatalf("%s: %v", dashboardFile, err)
	}
	return d
}

// variables stand for the variables of a dashboard in its queries.
var variables = strings.NewReplacer("$__rate_interval", "5m", "$job", ".*", "$instance", ".*")

// queries returns the queries of the dashboard, by the titles of their panels.
func (d dashboard) queries() map[string]string {
	all := map[string]string{}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			all[p.Title+" "+target.RefID] = variables.Replace(target.Expr)
		}
	}
	return all
}

func TestDashboardIsComplete(t *testing.T) {
	d := readDashboard(t)
	if d.Title != "Ferry" || d.UID == "" || d.SchemaVersion == 0 {
		t.Errorf("title %q, uid %q, schema %d", d.Title, d.UID, d.SchemaVersion)
	}
	ids, places := map[int]string{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if other, ok := ids[p.ID]; ok {
			t.Errorf("%q and %q have the same id", p.Title, other)
		}
		ids[p.ID] = p.Title
		if p.Title == "" || p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %d, %q, has no title or no query", p.ID, p.Title)
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other, ok := places[at]; ok || at[0] >= 24 {
					t.Fatalf("%q is at %v, where %q is, or beyond the edge", p.Title, at, other)
				}
				places[at] = p.Title
			}
		}
	}
	if len(d.queries()) < 30 {
		t.Errorf("it has %d queries", len(d.queries()))
	}
	for title, query := range d.queries() {
		if strings.Contains(query, "$") {
			t.Errorf("%s has an unknown variable: %s", title, query)
		}
	}
}

func TestQueriesAndRulesParse(t *testing.T) {
	promtool(t, "", "check", "rules", "../../"+rulesFile)
	var f ruleFile
	queries := readDashboard(t).queries()
	f.Groups = append(f.Groups, struct {
		Name  string `yaml:"name"`
		Rules []rule `yaml:"rules"`
	}{Name: "dashboard"})
	for i, title := range slices.Sorted(maps.Keys(queries)) {
		f.Groups[0].Rules = append(f.Groups[0].Rules, rule{Record: fmt.Sprintf("query:%d", i), Expr: queries[title]})
	}
	text, err := yaml.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "", "check", "rules", path)
}

func TestEveryAlertFiresWhenItShould(t *testing.T) {
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, path := range ruleTestsFiles {
		var f struct {
			Tests []struct {
				Alerts []struct {
					Name     string `yaml:"alertname"`
					Expected []any  `yaml:"exp_alerts"`
				} `yaml:"alert_rule_test"`
			}
		}
		decode(t, path, &f)
		for _, test := range f.Tests {
			for _, a := range test.Alerts {
				if len(a.Expected) > 0 {
					fires[a.Name] = true
				} else {
					quiet[a.Name] = true
				}
			}
		}
		promtool(t, "", "test", "rules", "../../"+path)
	}
	page := read(t, "docs/operations.md")
	for _, r := range rules(t) {
		if r.Alert == "" {
			continue
		}
		if !strings.Contains(page, "`"+r.Alert+"`") {
			t.Errorf("docs/operations.md does not name %s", r.Alert)
		}
		if !fires[r.Alert] || !quiet[r.Alert] {
			t.Errorf("%s is tested when it fires: %t, when it does not: %t", r.Alert, fires[r.Alert], quiet[r.Alert])
		}
		if r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s lacks its severity, summary or description", r.Alert)
		}
	}
}

// ownMetric is a metric of Ferry, or of the process, in a query.
var ownMetric = regexp.MustCompile(`\b(ferry_\w+|process_\w+)\b`)

// testUse compares the metrics in rules and dashboard with those of the instances.
func (s scrapes) testUse(t *testing.T) {
	exists := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^(\w+)[{ ]`).FindAllStringSubmatch(s.root+s.child, -1) {
		exists[m[1]] = true
	}
	queries := readDashboard(t).queries()
	for _, v := range readDashboard(t).Templating.List {
		queries["variable "+v.Name] = v.Definition
	}
	for _, r := range rules(t) {
		queries[r.Alert+r.Record] = r.Expr
	}
	used := 0
	for title, query := range queries {
		for _, m := range ownMetric.FindAllString(query, -1) {
			if used++; !exists[m] {
				t.Errorf("%s: no instance has the metric %s", title, m)
			}
		}
	}
	if used < 50 {
		t.Errorf("only %d metrics are in use", used)
	}
}

func TestScrapeConfigurationIsValid(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"prometheus.yml", "ferry.rules.yml"} {
		text := []byte(read(t, "deploy/prometheus/"+name))
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "ferry-password"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "", "check", "config", filepath.Join(dir, "prometheus.yml"))
}
