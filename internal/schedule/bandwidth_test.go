package schedule

import (
	"testing"
	"time"
)

func TestBandwidthFollowsTheTimeOfDay(t *testing.T) {
	for _, test := range []struct {
		name  string
		texts []string
		want  map[string]int64 // by time of day
	}{
		{"none", nil, map[string]int64{"12:00": 0}},
		{"one rate", []string{"512KiB"}, map[string]int64{"00:00": 512 << 10, "23:59": 512 << 10}},
		{"bits", []string{"4Mbit/s"}, map[string]int64{"12:00": 500_000}},
		{"a fraction", []string{"1.5 MiB"}, map[string]int64{"12:00": 3 << 19}},
		{"the day, and the rest", []string{"08:00-18:00=1MiB", "unlimited"},
			map[string]int64{"07:59": 0, "08:00": 1 << 20, "17:59": 1 << 20, "18:00": 0}},
		{"past midnight", []string{"22:00-06:00=8MiB", "1MiB"},
			map[string]int64{"23:00": 8 << 20, "05:59": 8 << 20, "06:00": 1 << 20}},
		{"until midnight", []string{"20:00-24:00=2KiB"}, map[string]int64{"23:59": 2048, "00:00": 0}},
		{"the first that covers the time", []string{"12:00-13:00=unlimited", "10:00-14:00=2KiB"},
			map[string]int64{"12:30": 0, "11:00": 2048}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, err := ParseBandwidth(test.texts)
			if err != nil {
				t.Fatal(err)
			}
			for at, want := range test.want {
				day, _ := time.Parse("15:04", at)
				if got := b.At(day.In(time.FixedZone("east", 3*3600))); got != want {
					t.Errorf("At(%s) = %d, want %d", at, got, want)
				}
			}
		})
	}
}

func TestMalformedBandwidthsAreRefused(t *testing.T) {
	for _, text := range []string{"", "1", "1MB", "MiB", "-1MiB", "1e9MiB", "1KiBKiB", "0.5KiB", "NaNMiB", "0MiB",
		"8-18=1MiB", "08:00=1MiB", "08:00-08:00=1MiB", "08:00-25:00=1MiB", "8:00-09:00=1MiB", "99999999999999GiB",
		"1..2MiB"} {
		if _, err := ParseBandwidth([]string{text}); err == nil {
			t.Errorf("ParseBandwidth(%q) succeeded", text)
		}
	}
	if _, err := ParseBandwidth(make([]string, maxSpans+1)); err == nil {
		t.Error("too many bandwidths are not refused")
	}
}

func FuzzBandwidth(f *testing.F) {
	for _, text := range []string{"08:00-18:00=1.5MiB/s", "unlimited", "4Mbit"} {
		f.Add(text, int64(0))
	}
	f.Fuzz(func(t *testing.T, text string, at int64) {
		b, err := ParseBandwidth([]string{text})
		if err != nil {
			return
		}
		if rate := b.At(time.Unix(at%(1<<40), 0)); rate != 0 && rate < minBandwidth {
			t.Errorf("%q is %d bytes per second", text, rate)
		}
	})
}
