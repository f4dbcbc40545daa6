package schedule

import (
	"fmt"
	"strings"
	"time"
)

// A Budget limits the bytes that are received in each day, or each month, in UTC. The zero
// value is no limit.
type Budget struct {
	Bytes   int64 // 0 is no limit
	monthly bool
}

// minBudget is at least as much as one request fetches.
const minBudget = 1 << 20

// ParseBudget reads a budget such as "2GiB/day" or "20GiB/month"; "" is no limit. Sizes are in
// KiB, MiB or GiB, and at least 1 MiB.
func ParseBudget(text string) (Budget, error) {
	if text == "" {
		return Budget{}, nil
	}
	size, period, ok := strings.Cut(text, "/")
	b := Budget{monthly: period == "month"}
	if !ok || !b.monthly && period != "day" {
		return Budget{}, fmt.Errorf("byte budget %.50q: want SIZE/day or SIZE/month, such as 2GiB/day", text)
	}
	n, err := parseRate(strings.TrimSpace(size))
	if err != nil || n < minBudget || strings.Contains(strings.ToLower(size), "bit") {
		return Budget{},
			fmt.Errorf("byte budget %.50q: want SIZE/day or SIZE/month, such as 2GiB/day, of at least 1MiB",
				text)
	}
	b.Bytes = n
	return b, nil
}

// Period returns the start of the period of t, and of the next period.
func (b Budget) Period(t time.Time) (start, next time.Time) {
	t = t.UTC()
	if b.monthly {
		start = time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
		return start, start.AddDate(0, 1, 0)
	}
	start = time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
	return start, start.AddDate(0, 0, 1)
}
