package schedule

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/sosodev/duration"
)

// maxPeriod is the longest period, in days.
const maxPeriod = 100 * 365

// days matches the days at the beginning of a period. The expression is never changed.
var days = regexp.MustCompile(`^(\d{1,6})d(.*)$`)

// ParsePeriod reads a period that a person writes: such as 30d, 12h, 90s or 1d12h30m, or in the form of
// ISO 8601, such as P7D. It is not negative, and at most a hundred years.
func ParsePeriod(text string) (time.Duration, error) {
	bad := fmt.Errorf("%.40q is not a period: want such as 30d, 12h, 90s, 1d12h30m or P7D", text)
	if text == "" || len(text) > 40 {
		return 0, bad
	}
	const most = maxPeriod * 24 * time.Hour
	if strings.HasPrefix(text, "P") {
		d, err := duration.Parse(text)
		if err != nil {
			return 0, bad
		}
		if period := d.ToTimeDuration(); period >= 0 && period <= most && d.Years <= 100 {
			return period, nil
		}
		return 0, bad
	}
	var period time.Duration
	rest := text
	if m := days.FindStringSubmatch(text); m != nil {
		n, err := strconv.Atoi(m[1])
		if err != nil || n > maxPeriod {
			return 0, bad
		}
		period, rest = time.Duration(n)*24*time.Hour, m[2]
	}
	if rest == "" {
		return period, nil
	}
	more, err := time.ParseDuration(rest)
	if err != nil || rest[0] == '+' || rest[0] == '-' || more > most-period {
		return 0, bad
	}
	return period + more, nil
}
