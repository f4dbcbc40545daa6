//go:build cluster

package cluster_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"ferry/test/cluster"
	"ferry/test/instance"
)

// TestFortyPushesTakeBoundedMemory pushes forty large layers at the same time through one process.
func TestFortyPushesTakeBoundedMemory(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Processes: 1})
	l := c.Root().AsAdmin(t)
	const (
		pushers = 40
		size    = 16 << 20
		limit   = 448 << 20 // docs/install/object-store.md says 330 MiB
	)
	idle := peakMemory(t, c.Processes[0].PID())
	var g errgroup.Group
	for i := range pushers {
		g.Go(func() error {
			content := make([]byte, size)
			rand.NewChaCha8([32]byte{byte(i)}).Read(content)
			location, err := l.StartUpload(t.Context(), "apps/a")
			if err != nil {
				return err
			}
			resp, err := l.Do(t.Context(), http.MethodPut, instance.WithDigest(location, digest.FromBytes(content)),
				nil, io.NopCloser(bytes.NewReader(content)), size)
			if err != nil {
				return err
			}
			return resp.Body.Close()
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	peak := peakMemory(t, c.Processes[0].PID())
	t.Logf("peak of %d MiB, %d MiB before the pushes", peak>>20, idle>>20)
	if peak > limit {
		t.Errorf("the process took %d MiB, want at most %d", peak>>20, limit>>20)
	}
}

var highWater = regexp.MustCompile(`VmHWM:\s*(\d+) kB`)

// peakMemory returns the most memory that a process has had, in bytes.
func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := highWater.FindSubmatch(status)
	if m == nil {
		t.Fatal("the system does not say how much memory the process has had")
	}
	kilobytes, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kilobytes << 10
}
