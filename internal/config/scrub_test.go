package config_test

import (
	"testing"
	"time"

	"ferry/internal/config"
)

func TestScrubPeriodIsOffOrAtLeastAnHour(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"off": 0, "30d": 720 * time.Hour, "36h": 36 * time.Hour, "1h": time.Hour,
		"": -1, "30": -1, "d": -1, "-1d": -1, "59m": -1, "0d": -1, "1w": -1, "99999d": -1,
	} {
		got, err := config.ParseScrub(text)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("ParseScrub(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
}

func TestScrubWindowIsPartOfTheDay(t *testing.T) {
	at := func(clock string) time.Time {
		at, err := time.Parse("15:04", clock)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	for _, test := range []struct {
		window, clock string
		want          bool
	}{
		{"any", "12:00", true},
		{"01:00-05:00", "00:59", false},
		{"01:00-05:00", "01:00", true},
		{"01:00-05:00", "04:59", true},
		{"01:00-05:00", "05:00", false},
		{"22:00-06:00", "21:59", false},
		{"22:00-06:00", "23:00", true},
		{"22:00-06:00", "05:59", true},
		{"22:00-06:00", "06:00", false},
	} {
		h, err := config.ParseHours(test.window)
		if got := h.Has(at(test.clock)); got != test.want || err != nil {
			t.Errorf("%s at %s: %v, %v; want %v", test.window, test.clock, got, err, test.want)
		}
	}
	for _, text := range []string{"", "1-5", "01:00", "01:00-01:00", "01:00-25:00", "any "} {
		if _, err := config.ParseHours(text); err == nil {
			t.Errorf("ParseHours(%q) took it", text)
		}
	}
}
