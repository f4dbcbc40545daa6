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
	set  *pflag.FlagSet
	days int
	at   string
}

func expiryFlags(set *pflag.FlagSet) *expiry {
	e := &expiry{set: set}
	set.IntVar(&e.days, "expiration-in-days", 0, "days for which the passwords are valid (default for ever)")
	textVar(set, &e.at, "expiration", "", "TIME", "when the passwords expire, in UTC, as 2031-12-31T12:59:59Z")
	set.IntVar(&e.days, "days", 0, "the same as --expiration-in-days")
	set.Lookup("days").Hidden = true
	return e
}

// time returns when the password ends; nil is never.
func (e *expiry) time(now time.Time) (*time.Time, error) {
	inDays := e.set.Changed("expiration-in-days") || e.set.Changed("days")
	switch {
	case inDays && e.at != "":
		return nil, usagef("--expiration-in-days and --expiration are both given: want one of them")
	case inDays && (e.days < 1 || e.days > maxDays):
		return nil, usagef("--expiration-in-days %d: want 1 to %d", e.days, maxDays)
	case inDays:
		t := now.UTC().Truncate(time.Second).AddDate(0, 0, e.days)
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
