package fleet

import (
	"testing"
	"time"

	"ferry/internal/schedule"
)

func TestForecastFollowsWindowsBudgetAndBandwidth(t *testing.T) {
	at := func(text string) time.Time {
		v, err := time.Parse("2006-01-02 15:04", text)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	const mib = 1 << 20
	now := at("2030-01-02 12:00")
	for _, test := range []struct {
		name         string
		cron, window string
		bandwidth    []string
		budget       string
		left         int64 // of the budget; -1 is all
		rate, bytes  int64
		extra        time.Time
		want         string // "" is none
		windows      int
	}{
		{"continuous", "* * * * *", "", nil, "", -1, mib, 3600 * mib, time.Time{}, "2030-01-02 13:00", 1},
		{"the next window", "0 2 * * *", "PT1H", nil, "", -1, mib, 1800 * mib, time.Time{}, "2030-01-03 02:30", 1},
		{"three windows", "0 2 * * *", "PT1H", nil, "", -1, mib, 9000 * mib, time.Time{}, "2030-01-05 02:30", 3},
		{"an extra window first", "0 2 * * *", "PT1H", nil, "", -1, mib, 5400 * mib, at("2030-01-02 13:00"),
			"2030-01-03 02:30", 2},
		{"a bandwidth", "* * * * *", "", []string{"512KiB"}, "", -1, mib, 3600 * mib, time.Time{},
			"2030-01-02 14:00", 1},
		{"a bandwidth by day", "* * * * *", "", []string{"06:00-18:00=512KiB"}, "", -1, mib, 6 * 3600 * mib,
			time.Time{}, "2030-01-02 21:00", 1},
		{"only a bandwidth is known", "* * * * *", "", []string{"1MiB"}, "", -1, 0, 3600 * mib, time.Time{},
			"2030-01-02 13:00", 1},
		{"a budget", "* * * * *", "", nil, "1800MiB/day", -1, mib, 3600 * mib, time.Time{}, "2030-01-03 00:30", 1},
		{"a budget that is spent", "* * * * *", "", nil, "1800MiB/day", 0, mib, 1800 * mib, time.Time{},
			"2030-01-03 00:30", 1},
		{"a budget and windows", "0 2 * * *", "PT1H", nil, "1800MiB/day", -1, mib, 3600 * mib, time.Time{},
			"2030-01-04 02:30", 2},
		{"nothing but tags", "0 2 * * *", "PT1H", nil, "", -1, 0, 0, time.Time{}, "2030-01-03 02:00", 1},
		{"no rate is known", "* * * * *", "", nil, "", -1, 0, mib, time.Time{}, "", 0},
		{"longer than the forecast", "0 2 * * *", "PT1H", nil, "", -1, 1, 1 << 50, time.Time{}, "", 0},
		{"an impossible rate", "* * * * *", "", nil, "", -1, 1 << 62, 1 << 62, time.Time{}, "", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := forecast{window: windowOf(test.cron, test.window), extra: test.extra, rate: test.rate}
			var err error
			if f.bandwidth, err = schedule.ParseBandwidth(test.bandwidth); err != nil {
				t.Fatal(err)
			}
			if f.budget, err = schedule.ParseBudget(test.budget); err != nil {
				t.Fatal(err)
			}
			if test.left >= 0 {
				f.left = &test.left
			}
			end, windows := f.end(now, test.bytes)
			if test.want == "" {
				if !end.IsZero() {
					t.Errorf("it ends at %s", end)
				}
				return
			}
			if late := end.Sub(at(test.want)); late < 0 || late > 5*time.Second || windows != test.windows {
				t.Errorf("it ends at %s in %d windows, want %s in %d", end, windows, test.want, test.windows)
			}
		})
	}
}
