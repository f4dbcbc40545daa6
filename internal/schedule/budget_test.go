package schedule

import (
	"testing"
	"time"
)

func TestBudgetPeriodsAreDaysOrMonths(t *testing.T) {
	at := time.Date(2030, 12, 31, 23, 30, 0, 0, time.FixedZone("west", -2*3600)) // 2031-01-01T01:30Z
	for _, test := range []struct {
		text        string
		bytes       int64
		start, next string
	}{
		{"2GiB/day", 2 << 30, "2031-01-01", "2031-01-02"},
		{"1.5MiB/month", 3 << 19, "2031-01-01", "2031-02-01"},
		{"", 0, "2031-01-01", "2031-01-02"},
	} {
		b, err := ParseBudget(test.text)
		if err != nil {
			t.Fatal(err)
		}
		start, next := b.Period(at)
		if b.Bytes != test.bytes || start.Format(time.DateOnly) != test.start ||
			next.Format(time.DateOnly) != test.next {
			t.Errorf("%q: %d, %v to %v", test.text, b.Bytes, start, next)
		}
	}
	for _, text := range []string{"2GiB", "/day", "2GiB/week", "2/day", "unlimited/day", "1KiB/day", "8Mbit/day",
		"-1GiB/day", "2GiB/day/day"} {
		if _, err := ParseBudget(text); err == nil {
			t.Errorf("ParseBudget(%q) succeeded", text)
		}
	}
}
