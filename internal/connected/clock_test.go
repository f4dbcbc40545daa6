package connected_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/api"
)

func TestClockSkewIsReportedAtBothEnds(t *testing.T) {
	for _, test := range []struct {
		name  string
		ahead time.Duration
		words string // of the warning; "" is none
	}{
		{"a day ahead", 25 * time.Hour, "25h0m0s ahead of"},
		{"it booted without a battery", -50 * 365 * 24 * time.Hour, "behind"},
		{"as far off as links make it", 4 * time.Minute, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				root := newRoot(t)
				d := root.push("app/a", "1", "v1", 10)
				c := root.connectedRegistry("ship1", api.RegistryPut{})
				ship := root.child("ship1")
				ship.ahead.Store(int64(test.ahead))
				root.start(ship, c)
				ship.awaitTag("app/a", "v1", d)
				time.Sleep(10 * time.Minute)
				text := func(details []api.StatusDetail) string {
					for _, d := range details {
						if d.Code == "ClockSkew" {
							return d.Description
						}
					}
					return ""
				}
				says := func(text string) bool {
					return (text != "") == (test.words != "") && strings.Contains(text, test.words)
				}
				own := ship.agent.Status().Details
				if len(own) > 0 != (test.words != "") || len(own) > 0 &&
					(own[0].Code != "ClockSkew" || !says(own[0].Description)) {
					t.Errorf("at the site: %+v", own)
				}
				r, err := root.fleet.Get(t.Context(), by, "ship1")
				if err != nil || !says(text(r.StatusDetails)) {
					t.Errorf("at the root: %+v %v", r.StatusDetails, err)
				}
				if n := ship.log.count("clock differs from the parent's"); n != len(own) {
					t.Errorf("it was logged %d times", n)
				}
				ship.ahead.Store(0)
				time.Sleep(10 * time.Minute)
				if own := ship.agent.Status().Details; len(own) > 0 {
					t.Errorf("the clock was set, and it says %+v", own)
				}
				if r, err := root.fleet.Get(t.Context(), by, "ship1"); err != nil || len(r.StatusDetails) > 0 {
					t.Errorf("the clock was set, and the root says %+v %v", r.StatusDetails, err)
				}
			})
		})
	}
}
