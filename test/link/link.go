// Package link runs linksim, a TCP proxy that behaves like a poor wide-area
// link and counts the bytes that cross it.
package link

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ferry/test/daemon"
)

// A Link is a running link to one server.
type Link struct {
	Host  string // host:port to dial instead of the server's
	stats string
}

// Stats are the counters of a link.
type Stats struct {
	Down        int64 `json:"down_bytes"` // from the server to its clients
	Up          int64 `json:"up_bytes"`
	Connections int64 `json:"connections"`
	Refused     int64 `json:"refused"`
	Cuts        int64 `json:"cuts"`
	ElapsedMS   int64 `json:"elapsed_ms"`
}

// Start opens a link to target (host:port), with flags of linksim such as "-down",
// "8mbit", "-rtt", "300ms". It closes with the test. If linksim's source is not
// found, the test is skipped, except in CI.
func Start(t testing.TB, target string, flags ...string) *Link {
	t.Helper()
	stats := daemon.FreeAddress(t)
	cmd := exec.Command(build(t), append([]string{"-target", target, "-stats", stats}, flags...)...)
	// Its first line is "linksim: 127.0.0.1:7000 -> 127.0.0.1:5000".
	host := daemon.Start(t, cmd, func(line string) string {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			t.Fatalf("linksim: %s", line)
		}
		return fields[1]
	})
	return &Link{Host: host, stats: "http://" + stats}
}

// Stats returns the link's counters.
func (l *Link) Stats(t testing.TB) Stats {
	t.Helper()
	resp, err := http.Get(l.stats)
	if err != nil {
		t.Fatalf("linksim: %v", err)
	}
	defer resp.Body.Close()
	var s Stats
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		t.Fatalf("linksim: %v", err)
	}
	return s
}

// build builds linksim from $FERRY_SHARED, or from beside the checkout.
func build(t testing.TB) string {
	t.Helper()
	shared := os.Getenv("FERRY_SHARED")
	if shared == "" {
		shared = "../../../shared"
	}
	source := filepath.Join(shared, "tools", "linksim")
	if _, err := os.Stat(source); err != nil {
		missing := fmt.Sprintf("linksim is not there (set FERRY_SHARED): %v", err)
		if os.Getenv("CI") != "" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	out, err := filepath.Abs("../../bin/linksim")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-o", out, ".")
	cmd.Dir = source
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build linksim: %v\n%s", err, text)
	}
	return out
}
