package schedule_test

import (
	"testing"
	"time"

	"ferry/internal/schedule"
)

func TestPeriodsAreReadAsPeopleWriteThem(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"30d": 30 * day, "12h": 12 * time.Hour, "90s": 90 * time.Second, "1.5h": 90 * time.Minute,
		"P7D": 7 * day, "PT90M": 90 * time.Minute, "36500d": 36500 * day, "0": 0, "0d": 0,
		"1d12h30m": day + 12*time.Hour + 30*time.Minute,
	} {
		if got, err := schedule.ParsePeriod(text); got != want || err != nil {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "yesterday", "24", "-1h", "+1h", "1d-1h", "d", "36501d", "36500d1s", "P200Y", "-P1D", "P1", "1w",
	} {
		if got, err := schedule.ParsePeriod(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

func FuzzPeriod(f *testing.F) {
	f.Add("1d12h30m")
	f.Add("P7DT1H")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := schedule.ParsePeriod(text)
		if got < 0 || got > 101*366*24*time.Hour || err != nil && got != 0 {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	})
}
