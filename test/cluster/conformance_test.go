//go:build cluster

package cluster_test

import (
	"testing"

	"ferry/test/cluster"
	"ferry/test/conformance"
)

func TestSpecificationSuitePassesThroughTheProxy(t *testing.T) {
	conformance.Run(t, cluster.Start(t, cluster.Options{}).Root().AsAdmin(t))
}
