package schedule_test

import (
	"strings"
	"testing"
	"time"

	"ferry/internal/schedule"
)

func at(t *testing.T, text string) time.Time {
	t.Helper()
	v, err := time.Parse("2006-01-02 15:04:05", text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestWindowOpensAtTickAndClosesAfterItsLength(t *testing.T) {
	for _, test := range []struct {
		name, cron, window, now string
		open                    bool
		until, next             string
	}{
		{"in the window of the previous tick", "30 * * * *", "PT1H", "2026-01-01 00:00:00", true, "2026-01-01 00:30:00",
			"2026-01-01 00:30:00"},
		{"at the tick", "30 9 * * *", "PT1H", "2026-01-01 09:30:00", true, "2026-01-01 10:30:00",
			"2026-01-02 09:30:00"},
		{"inside the window", "30 9 * * *", "PT1H", "2026-01-01 10:29:59", true, "2026-01-01 10:30:00",
			"2026-01-02 09:30:00"},
		{"at its end", "30 9 * * *", "PT1H", "2026-01-01 10:30:00", false, "2026-01-01 10:30:00",
			"2026-01-02 09:30:00"},
		{"longer than the interval", "0 * * * *", "PT3H", "2026-01-01 10:30:00", true, "2026-01-01 13:00:00",
			"2026-01-01 11:00:00"},
		{"over midnight", "0 23 * * *", "PT3H", "2026-01-02 01:00:00", true, "2026-01-02 02:00:00",
			"2026-01-02 23:00:00"},
		{"Mondays", "0 6 * * 1", "PT1H", "2026-01-01 06:30:00", false, "2025-12-29 07:00:00", "2026-01-05 06:00:00"},
		{"leap day", "0 0 29 2 *", "P7D", "2026-01-01 00:00:00", false, "2024-03-07 00:00:00", "2028-02-29 00:00:00"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, err := schedule.Parse(test.cron, test.window)
			if err != nil {
				t.Fatal(err)
			}
			now := at(t, test.now)
			open, until := w.Open(now)
			if open != test.open || !until.Equal(at(t, test.until)) {
				t.Errorf("Open = %v until %v, want %v until %s", open, until, test.open, test.until)
			}
			if next := w.Next(now); !next.Equal(at(t, test.next)) {
				t.Errorf("Next = %v, want %s", next, test.next)
			}
		})
	}
}

func TestContinuousIsAlwaysOpen(t *testing.T) {
	w, err := schedule.Parse("* * * * *", "")
	if err != nil {
		t.Fatal(err)
	}
	if open, until := w.Open(at(t, "2026-01-01 00:00:30")); !open || !until.IsZero() {
		t.Errorf("Open = %v until %v, want true and zero", open, until)
	}
}

func TestBadSchedulesAreRefusedWithAnExample(t *testing.T) {
	for _, test := range []struct{ cron, window, want string }{
		{"", "", "0 fields"},
		{"* * * *", "PT1H", "4 fields"},
		{"@daily", "PT1H", "1 fields"},
		{"60 * * * *", "PT1H", "out of its range"},
		{"0 0 31 2 *", "PT1H", "never"},
		{"0 0 * * * *", "PT1H", "6 fields"},
		{"$(id) * * * *", "PT1H", "not a valid field"},
		{strings.Repeat("1,", 1000) + "1 * * * *", "PT1H", "too long"},
		{"0 * * * *", "", "required"},
		{"0 * * * *", "1h", "not an ISO 8601"},
		{"0 * * * *", "PT59M", "out of range"},
		{"0 * * * *", "P8D", "out of range"},
		{"0 * * * *", "-PT2H", "range"},
	} {
		_, err := schedule.Parse(test.cron, test.window)
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "example") {
			t.Errorf("Parse(%.30q, %q) = %v, want an example and %q", test.cron, test.window, err, test.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("30 * * * *", "PT1H")
	f.Add("*/5 1-3,7 L * FRI", "P1DT2H")
	now := time.Unix(1_700_000_000, 0)
	f.Fuzz(func(t *testing.T, cron, window string) {
		w, err := schedule.Parse(cron, window)
		if err != nil {
			return
		}
		if next := w.Next(now); !next.IsZero() && !next.After(now) {
			t.Errorf("Next = %v is not after %v", next, now)
		}
		w.Open(now)
	})
}
