package replication_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"ferry/internal/oci"
	"ferry/internal/replication"
	"ferry/internal/storage/storagetest"
)

// BenchmarkFirstSync syncs many tags whose images share layers. "cpu-ns/tag" counts both
// ends, which run in this process.
func BenchmarkFirstSync(b *testing.B) {
	p := newParent(b)
	const repositories, tags = 40, 50
	for i := range repositories {
		repository := fmt.Sprint("app/", i)
		var layers []oci.Descriptor
		for l := range 3 {
			layers = append(layers, p.PushBlob(repository, randomBytes(uint64(l), 20_000)))
		}
		for j := range tags {
			config := p.PushBlob(repository, fmt.Appendf(nil, `{"tag":%d}`, j))
			p.Push(repository, storagetest.Manifest{Config: &config, Layers: layers}, fmt.Sprint("v", j))
		}
	}
	var took time.Duration
	synced := 0
	for b.Loop() {
		r := newReplica(b, p, replication.Options{})
		r.follow()
		before := processorTime()
		synced += r.sync().Synced
		took += processorTime() - before
	}
	b.ReportMetric(float64(took.Nanoseconds())/float64(synced), "cpu-ns/tag")
}

// processorTime returns the CPU time that this process has used.
func processorTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
