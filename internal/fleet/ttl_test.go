package fleet_test

import (
	"testing"
	"time"
)

func TestLongestMessageTTLIsAtLeastTheDefault(t *testing.T) {
	root := newRoot(t)
	if got := root.LongestMessageTTL(); got != 48*time.Hour {
		t.Errorf("without connected registries: %v", got)
	}
	root.Connect(t, "ship1", "", "a")
	root.Connect(t, "cabin1", "ship1", "a")
	for name, want := range map[string]time.Duration{"P1D": 48 * time.Hour, "P20D": 20 * 24 * time.Hour} {
		root.Call(t, "PATCH", "/connected-registries/cabin1", object{"syncMessageTtl": name}).OK(t, nil)
		if got := root.LongestMessageTTL(); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}
