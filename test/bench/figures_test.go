//go:build bench

package bench

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the figures into docs/performance.md")

func TestMain(m *testing.M) {
	if dir := os.Getenv(fileServerEnv); dir != "" {
		runFileServer(dir) // this process is the file server of blobs
		return
	}
	os.Exit(m.Run())
}

// A figure is one row of the table.
type figure struct {
	name   string
	ferry  string // the measurement
	peer   string // the measurement of the alternative
	ratio  string
	target string // "" is none
	// reached is the share of the target that was reached, 1 or more if it was met. It is ignored
	// without a target.
	reached float64
}

func (f figure) met() bool { return f.target == "" || f.reached >= 1 }

// failBelow is the share of a target below which a benchmark fails. Above it, the table says whether
// the target was met.
const failBelow = 0.4

// check fails the test if a figure misses its target by far.
func check(t *testing.T, figures []figure) {
	t.Helper()
	for _, f := range figures {
		t.Logf("%s: %s; %s; ratio %s, target %s", f.name, f.ferry, f.peer, f.ratio, f.target)
		if f.target != "" && f.reached < failBelow {
			t.Errorf("%s: %.2f of the target is reached; it fails below %.2f", f.name, f.reached, failBelow)
		}
	}
}

// share returns the share of a target that a value reaches which should be at most limit.
func share[N int | int64 | float64 | time.Duration](limit, value N) float64 {
	if value <= 0 {
		return 1
	}
	return float64(limit) / float64(value)
}

func TestFigures(t *testing.T) {
	var figures []figure
	for _, c := range []struct {
		name    string
		measure func(t *testing.T) []figure
	}{
		{"blobs", blobs},
		{"manifests", manifests},
		{"tag list", tagList},
		{"fresh connection", freshConnections},
		{"pushes", pushes},
		{"memory", memory},
		{"first sync", firstSync},
		{"databases", databases},
		{"objects", objects},
	} {
		t.Run(c.name, func(t *testing.T) {
			measured := c.measure(t)
			figures = append(figures, measured...)
			check(t, measured)
		})
	}
	text := markdown(t, figures)
	fmt.Print("\n", text)
	if *update && !t.Failed() {
		replaceBetween(t, "../../docs/performance.md", "figures: make bench UPDATE=1", "end of figures", text)
	}
}

func markdown(t *testing.T, figures []figure) string {
	var b strings.Builder
	b.WriteString(measuredWhereAndWhen(t))
	b.WriteString("| case | Ferry | beside | ratio | target | met |\n|---|---|---|---|---|---|\n")
	writeRows(&b, figures)
	return b.String()
}

// measuredWhereAndWhen names the date, the Go version and the machine.
func measuredWhereAndWhen(t *testing.T) string {
	return fmt.Sprintf("Measured on %s with %s, on %d cores of %s.\n\n",
		time.Now().UTC().Format(time.DateOnly), runtime.Version(), runtime.NumCPU(), processor(t))
}

func writeRows(b *strings.Builder, figures []figure) {
	for _, f := range figures {
		met := "yes"
		if !f.met() {
			met = "**no**"
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s |\n", f.name, f.ferry, f.peer, f.ratio, f.target, met)
	}
}

// processor returns the name of the machine's processor.
func processor(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if _, name, ok := strings.Cut(lines.Text(), "model name\t: "); ok {
			return name
		}
	}
	return runtime.GOARCH
}

// replaceBetween replaces the text between two comments of a file.
func replaceBetween(t *testing.T, path, begin, end, text string) {
	t.Helper()
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin, end = "<!-- "+begin+" -->\n", "<!-- "+end+" -->\n"
	head, rest, ok := strings.Cut(string(old), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no lines %q and %q", path, begin, end)
	}
	if err := os.WriteFile(path, []byte(head+begin+text+end+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}
