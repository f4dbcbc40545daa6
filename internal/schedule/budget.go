package schedule

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// A Budget is how many bytes may come in each day, or each month, in UTC. The
// zero value is as many as there are.
type Budget struct {
	Bytes   int64 // 0 is no limit
	monthly bool
}

// minBudget keeps a budget from being less than what is fetched at once.
const minBudget = 1 << 20

// ParseBudget reads "2GiB/day" or "20GiB/month"; "" is no limit. Sizes have
// KiB, MiB or GiB behind them; the least is 1 MiB.
func ParseBudget(text string) (Budget, error) {
	if text == "" {
		return Budget{}, nil
	}
	size, period, ok := strings.Cut(text, "/")
	b := Budget{monthly: period == "month"}
	if !ok || !b.monthly && period != "day" {
		return Budget{}, fmt.Errorf("byte budget %.50q: want SIZE/day or SIZE/month, as 2GiB/day", text)
	}
	n, err := parseRate(strings.TrimSpace(size))
	if err == nil && (n < minBudget || strings.Contains(strings.ToLower(size), "bit")) {
		err = errors.New("want a size of at least 1MiB")
	}
	if err != nil {
		return Budget{}, fmt.Errorf("byte budget %.50q: want SIZE/day or SIZE/month, as 2GiB/day, of at least 1MiB",
			text)
	}
	b.Bytes = n
	return b, nil
}

// Period returns when the period began that t is in, and when the next does.
func (b Budget) Period(t time.Time) (start, next time.Time) {
	t = t.UTC()
	if b.monthly {
		start = time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
		return start, start.AddDate(0, 1, 0)
	}
	start = time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
	return start, start.AddDate(0, 0, 1)
}
