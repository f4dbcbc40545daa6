// Package schedule decides when a sync may run, and how much it may transfer: a window opens
// with each tick of a cron expression, for an ISO 8601 duration (window.go); a bandwidth limits
// the rate by time of day, and a budget the bytes per day or month. All times are UTC, so
// that neither time zones nor daylight saving time move a window.
package schedule

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/adhocore/gronx"
)

// Continuous is the cron expression of a schedule whose window is always open.
const Continuous = "* * * * *"

// maxExpression is the maximum length of a cron expression, in bytes.
const maxExpression = 256

// cronField matches the characters of a field. The parser checks the names of months and days.
var cronField = regexp.MustCompile(`^[0-9A-Za-z*/,?#-]+$`)

// A Cron is a valid cron expression of five fields: minute, hour, day of the
// month, month, day of the week.
type Cron struct{ expression string }

// ParseCron reads a cron expression.
func ParseCron(text string) (Cron, error) {
	bad := func(why string) (Cron, error) {
		return Cron{}, fmt.Errorf("cron expression %.40q: %s (example: 30 * * * *, which is half past every hour)",
			text, why)
	}
	if len(text) > maxExpression {
		return bad("it is too long")
	}
	fields := strings.Fields(text)
	if len(fields) != 5 {
		return bad(fmt.Sprintf("it has %d fields, want five: minute, hour, day of month, month, day of week",
			len(fields)))
	}
	for _, f := range fields {
		if !cronField.MatchString(f) {
			return bad(fmt.Sprintf("%q is not a valid field", f))
		}
	}
	c := Cron{strings.Join(fields, " ")}
	if !gronx.IsValid(c.expression) {
		return bad("a field is out of its range")
	}
	if _, err := gronx.NextTickAfter(c.expression, time.Unix(0, 0).UTC(), true); err != nil {
		return bad("it never matches")
	}
	return c, nil
}

// Continuous reports whether the expression is [Continuous].
func (c Cron) Continuous() bool { return c.expression == Continuous }

// Next returns the first tick after t; zero if there is none.
func (c Cron) Next(t time.Time) time.Time {
	next, err := gronx.NextTickAfter(c.expression, t.UTC(), false)
	if err != nil {
		return time.Time{} // its year is over
	}
	return next
}

// Prev returns the last tick at or before t; zero if there is none.
func (c Cron) Prev(t time.Time) time.Time {
	prev, err := gronx.PrevTickBefore(c.expression, t.UTC(), true)
	if err != nil {
		return time.Time{}
	}
	return prev
}
