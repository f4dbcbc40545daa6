package config

import (
	"testing"
	"time"
)

func TestSpreadGrowsWithTheFleet(t *testing.T) {
	for _, tc := range []struct {
		text       string
		registries int
		want       time.Duration
	}{
		{"auto", 99, 0}, {"auto", 1000, 20 * time.Second}, {"auto", 1_000_000, 10 * time.Minute},
		{"off", 10_000, 0}, {"90s", 1, 90 * time.Second}, {"0s", 10_000, 0},
	} {
		spread, err := ParseSpread(tc.text)
		if err != nil {
			t.Fatal(err)
		}
		if got := spread(tc.registries); got != tc.want {
			t.Errorf("spread %s of %d = %s, want %s", tc.text, tc.registries, got, tc.want)
		}
	}
	for _, text := range []string{"", "soon", "-1s", "61m"} {
		if _, err := ParseSpread(text); err == nil {
			t.Errorf("ParseSpread(%q) has no error", text)
		}
	}
}
