package mirror

import (
	"testing"
	"time"

	"ferry/internal/metadb"
)

func TestRuleIsDueByScheduleAndOnRequest(t *testing.T) {
	day := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	at := func(clock string) time.Time {
		d, err := time.ParseDuration(clock)
		if err != nil {
			t.Fatal(err)
		}
		return day.Add(d)
	}
	var never time.Time
	created := func(clock string) metadb.MirrorRule { return metadb.MirrorRule{CreatedAt: at(clock)} }
	ran := func(clock string) metadb.MirrorRule {
		return metadb.MirrorRule{CreatedAt: at("-48h"), StartedAt: at(clock), EndedAt: at(clock).Add(time.Minute)}
	}
	asked := func(r metadb.MirrorRule, clock string) metadb.MirrorRule {
		r.RequestedAt = at(clock)
		return r
	}
	// failed is the rule after a temporary failure of a run that was due since then.
	failed := func(r metadb.MirrorRule, since string) metadb.MirrorRule {
		r.RetrySince = at(since)
		return r
	}
	for name, c := range map[string]struct {
		schedule, window string
		rule             metadb.MirrorRule
		now              string
		due              bool
		until            time.Time
	}{
		"a new one without a window":      {"0 6 * * *", "", asked(created("3h"), "3h"), "3h1m", true, never},
		"a new one with a window":         {"0 6 * * *", "PT2H", created("3h"), "3h1m", false, never},
		"a new one inside of a window":    {"0 6 * * *", "PT2H", created("7h"), "7h1m", false, never},
		"before the tick":                 {"0 6 * * *", "", ran("-18h"), "5h59m", false, never},
		"at the tick":                     {"0 6 * * *", "", ran("-18h"), "6h", true, never},
		"at the tick, with a window":      {"0 6 * * *", "PT2H", ran("-18h"), "6h", true, at("8h")},
		"late in the window":              {"0 6 * * *", "PT2H", ran("-18h"), "7h59m", true, at("8h")},
		"after the window":                {"0 6 * * *", "PT2H", ran("-18h"), "8h", false, never},
		"missed, without a window":        {"0 6 * * *", "", ran("-18h"), "20h", true, never},
		"ran since the tick":              {"0 6 * * *", "PT2H", ran("6h"), "7h", false, never},
		"asked":                           {"0 6 * * *", "PT2H", asked(ran("6h"), "12h"), "12h1m", true, at("14h")},
		"asked too long ago":              {"0 6 * * *", "PT2H", asked(ran("6h"), "12h"), "14h", false, never},
		"asked before the last run":       {"0 6 * * *", "", asked(ran("12h"), "11h"), "13h", false, never},
		"failed":                          {"0 6 * * *", "", failed(ran("7h"), "6h"), "9h", true, never},
		"failed, with a window":           {"0 6 * * *", "PT4H", failed(ran("7h"), "6h"), "9h", true, at("10h")},
		"failed, and the window is over":  {"0 6 * * *", "PT4H", failed(ran("7h"), "6h"), "10h", false, never},
		"failed, and the next tick came":  {"0 6,8 * * *", "PT4H", failed(ran("7h"), "6h"), "9h", true, at("12h")},
		"a clock that went back":          {"0 6 * * *", "", ran("48h"), "7h", false, never},
		"a window longer than the period": {"0 * * * *", "PT3H", ran("5h"), "6h30m", true, at("9h")},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := scheduleOf(Spec{Schedule: c.schedule, Window: c.window})
			if err != nil {
				t.Fatal(err)
			}
			d, due := s.due(c.rule, at(c.now))
			if due != c.due || due && !d.until.Equal(c.until) {
				t.Errorf("due = %v until %s", due, d.until)
			}
		})
	}
}
