package cli

import (
	"time"

	"github.com/spf13/pflag"
)

// maxDays bounds --expiration-in-days: a hundred years.
const maxDays = 36500

// An expiry is when a password ends, as --expiration-in-days and
// --expiration give it.
type expiry struct {
	days *int
	at   string
}

func (e *expiry) define(set *pflag.FlagSet) {
	numberOption(set, &e.days, "expiration-in-days", "days for which the passwords are valid (default for ever)")
	textVar(set, &e.at, "expiration", "", "TIME", "when the passwords expire, in UTC, as 2031-12-31T12:59:59Z")
	numberOption(set, &e.days, "days", "the same as --expiration-in-days")
	set.Lookup("days").Hidden = true
}

// time returns when the password ends; nil is never.
func (e *expiry) time(now time.Time) (*time.Time, error) {
	switch days := value(e.days); {
	case e.days != nil && e.at != "":
		return nil, usagef("--expiration-in-days and --expiration are both given: want one of them")
	case e.days != nil && (days < 1 || days > maxDays):
		return nil, usagef("--expiration-in-days %d: want 1 to %d", days, maxDays)
	case e.days != nil:
		t := now.UTC().Truncate(time.Second).AddDate(0, 0, days)
		return &t, nil
	case e.at == "":
		return nil, nil
	}
	t, err := time.Parse("2006-01-02T15:04:05Z", e.at)
	if err != nil {
		return nil, usagef("--expiration %q: want a time in UTC, as 2031-12-31T12:59:59Z", clip(e.at))
	}
	if !t.After(now) {
		return nil, usagef("--expiration %s is in the past", e.at)
	}
	return &t, nil
}
