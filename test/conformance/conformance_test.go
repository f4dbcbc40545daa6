//go:build conformance

package conformance

import (
	"testing"

	"ferry/test/instance"
)

func TestSpecificationSuitePasses(t *testing.T) {
	Run(t, instance.Start(t, instance.Options{}).AsAdmin(t))
}
