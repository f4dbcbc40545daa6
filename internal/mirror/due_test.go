package mirror

import (
	"testing"
	"time"

	"ferry/internal/metadb"
)

func TestARuleIsDueByScheduleAndOnRequest(t *testing.T) {
	day := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	at := func(clock string) time.Time {
		d, err := time.ParseDuration(clock)
		if err != nil {
			t.Fatal(err)
		}
		return day.Add(d)
	}
	made := at("-48h")
	for name, c := range map[string]struct {
		schedule, window string
		row              metadb.MirrorRule
		now              time.Time
		due              bool
		until            time.Time
	}{
		"a new one without a window":      {"0 6 * * *", "", asking(metadb.MirrorRule{CreatedAt: at("3h")}, at("3h")), at("3h1m"), true, time.Time{}},
		"a new one with a window":         {"0 6 * * *", "PT2H", metadb.MirrorRule{CreatedAt: at("3h")}, at("3h1m"), false, time.Time{}},
		"a new one inside of a window":    {"0 6 * * *", "PT2H", metadb.MirrorRule{CreatedAt: at("7h")}, at("7h1m"), false, time.Time{}},
		"before the tick":                 {"0 6 * * *", "", ran(made, at("-18h")), at("5h59m"), false, time.Time{}},
		"at the tick":                     {"0 6 * * *", "", ran(made, at("-18h")), at("6h"), true, time.Time{}},
		"at the tick, with a window":      {"0 6 * * *", "PT2H", ran(made, at("-18h")), at("6h"), true, at("8h")},
		"late in the window":              {"0 6 * * *", "PT2H", ran(made, at("-18h")), at("7h59m"), true, at("8h")},
		"after the window":                {"0 6 * * *", "PT2H", ran(made, at("-18h")), at("8h"), false, time.Time{}},
		"missed, without a window":        {"0 6 * * *", "", ran(made, at("-18h")), at("20h"), true, time.Time{}},
		"ran since the tick":              {"0 6 * * *", "PT2H", ran(made, at("6h")), at("7h"), false, time.Time{}},
		"asked":                           {"0 6 * * *", "PT2H", asking(ran(made, at("6h")), at("12h")), at("12h1m"), true, at("14h")},
		"asked too long ago":              {"0 6 * * *", "PT2H", asking(ran(made, at("6h")), at("12h")), at("14h"), false, time.Time{}},
		"asked before the last run":       {"0 6 * * *", "", asking(ran(made, at("12h")), at("11h")), at("13h"), false, time.Time{}},
		"owed":                            {"0 6 * * *", "", owed(ran(made, at("7h")), at("6h")), at("9h"), true, time.Time{}},
		"owed, with a window":             {"0 6 * * *", "PT4H", owed(ran(made, at("7h")), at("6h")), at("9h"), true, at("10h")},
		"owed, and the window is over":    {"0 6 * * *", "PT4H", owed(ran(made, at("7h")), at("6h")), at("10h"), false, time.Time{}},
		"owed, and the next tick came":    {"0 6,8 * * *", "PT4H", owed(ran(made, at("7h")), at("6h")), at("9h"), true, at("12h")},
		"a clock that went back":          {"0 6 * * *", "", ran(made, at("48h")), at("7h"), false, time.Time{}},
		"a window longer than the period": {"0 * * * *", "PT3H", ran(made, at("5h")), at("6h30m"), true, at("9h")},
	} {
		t.Run(name, func(t *testing.T) {
			k, err := scheduleOf(Spec{Schedule: c.schedule, Window: c.window})
			if err != nil {
				t.Fatal(err)
			}
			turn, due := k.due(c.row, c.now)
			if due != c.due || due && !turn.until.Equal(c.until) {
				t.Errorf("due = %v until %s", due, turn.until)
			}
		})
	}
}

// ran is a rule that ran at a time, and was done a minute later.
func ran(made, at time.Time) metadb.MirrorRule {
	return metadb.MirrorRule{CreatedAt: made, StartedAt: at, EndedAt: at.Add(time.Minute)}
}

// owed is a rule that is owed a run since a time.
func owed(r metadb.MirrorRule, since time.Time) metadb.MirrorRule {
	r.OwedAt = since
	return r
}

func asking(r metadb.MirrorRule, at time.Time) metadb.MirrorRule {
	r.AskedAt = at
	return r
}
