//go:build cluster

package cluster_test

import (
	"testing"

	"ferry/test/cluster"
	"ferry/test/conformance"
)

// The requests of one upload, and of one test of the suite, are answered by both processes in turn.
func TestSpecificationSuitePassesThroughTheProxy(t *testing.T) {
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			conformance.Run(t, cluster.Start(t, cluster.Options{Mode: mode}).Root().AsAdmin(t))
		})
	}
}
