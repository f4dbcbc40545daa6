package server_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ferry/internal/config"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/server"
	"ferry/internal/storage/storagetest"
)

// benchClients is how many clients pull at the same time.
const benchClients = 16

// BenchmarkManifestsByTag pulls manifests by tag, with several clients, in turns from a root on SQLite, from
// one on PostgreSQL alone, and from one of several processes on PostgreSQL. It reports the requests per
// second of the first, and those of the others as a share of them.
func BenchmarkManifestsByTag(b *testing.B) {
	secret := filepath.Join(b.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("s3cr3t", 8)), 0o600); err != nil {
		b.Fatal(err)
	}
	roots := []*benchRoot{
		startBench(b, nil),
		startBench(b, func(c *config.Config) { c.Database = dbtest.PostgresURL(b) }),
		startBench(b, func(c *config.Config) { c.Database, c.ClusterSecretFile = dbtest.PostgresURL(b), secret }),
	}
	const requests = 500 // in one turn
	for b.Loop() {
		for _, r := range roots {
			r.pull(b, requests)
		}
	}
	rate := func(r *benchRoot) float64 { return float64(r.pulls) / r.took.Seconds() }
	b.ReportMetric(rate(roots[0]), "sqlite-req/s")
	b.ReportMetric(rate(roots[1])/rate(roots[0]), "postgres/sqlite")
	b.ReportMetric(rate(roots[2])/rate(roots[0]), "cluster/sqlite")
}

// A benchRoot is a root with manifests.
type benchRoot struct {
	url, password string
	client        *http.Client
	pulls         int
	took          time.Duration
}

// benchTags is how many tags there are.
const benchTags = 100

func startBench(b *testing.B, change func(*config.Config)) *benchRoot {
	b.Helper()
	cfg := configIn(b.TempDir())
	o := server.Options{}
	if change != nil {
		change(&cfg)
	}
	if cfg.ClusterSecretFile != "" {
		o.SharedBlobs, o.Adopt = storagetest.Files(b, b.TempDir()), true
	}
	at, done := make(chan server.Ready, 1), make(chan error, 1)
	o.Ready = func(r server.Ready) { at <- r }
	ctx, stop := context.WithCancel(context.Background())
	go func() { done <- server.Run(ctx, cfg, o) }()
	b.Cleanup(func() { stop(); <-done })
	r := &benchRoot{client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: benchClients}}}
	select {
	case ready := <-at:
		password, err := os.ReadFile(ready.AdminPasswordFile)
		if err != nil {
			b.Fatal(err)
		}
		r.url, r.password = ready.URL, strings.TrimSpace(string(password))
	case err := <-done:
		done <- nil
		b.Fatal(err)
	}
	for n := range benchTags {
		if status := r.send(b, "PUT", n, emptyIndex); status != http.StatusCreated {
			b.Fatalf("a push answers %d", status)
		}
	}
	return r
}

// send sends a request for tag n, and returns the status.
func (r *benchRoot) send(b *testing.B, method string, n int, body string) int {
	url := fmt.Sprintf("%s/v2/app/manifests/t%d", r.url, n%benchTags)
	req, err := http.NewRequestWithContext(b.Context(), method, url, strings.NewReader(body))
	if err != nil {
		b.Error(err)
		return 0
	}
	req.SetBasicAuth("admin", r.password)
	req.Header.Set("Content-Type", imageIndex)
	req.Header.Set("Accept", imageIndex)
	resp, err := r.client.Do(req)
	if err != nil {
		b.Error(err)
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// pull pulls n times, with all clients together.
func (r *benchRoot) pull(b *testing.B, n int) {
	begun := time.Now()
	var next atomic.Int64
	var clients sync.WaitGroup
	for range benchClients {
		clients.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				if status := r.send(b, "GET", int(i), ""); status != http.StatusOK {
					b.Errorf("a pull answers %d", status)
				}
			}
		})
	}
	clients.Wait()
	r.pulls, r.took = r.pulls+n, r.took+time.Since(begun)
}
