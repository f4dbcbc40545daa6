package replication

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Sites that lose their parent at the same moment must not all fall upon it at
// the same moment when it is back.
func TestLinksThatFailTogetherDoNotTryAgainInStep(t *testing.T) {
	const sites, tries = 20, 80
	var pauses [tries][]time.Duration
	for range sites {
		synctest.Test(t, func(t *testing.T) {
			l := newLink()
			for try := range tries {
				failed := time.Now()
				l.failed(0, errors.New("cut"))
				if err := l.wait(t.Context()); err != nil {
					t.Fatal(err)
				}
				pauses[try] = append(pauses[try], time.Since(failed))
			}
		})
	}
	usual := float64(firstPause)
	for try, all := range pauses {
		least, most := slices.Min(all), slices.Max(all)
		if float64(least) < usual/2 || float64(most) > usual*3/2 {
			t.Errorf("pause %d is from %v to %v, want about %v", try, least, most, time.Duration(usual))
		}
		if most-least < time.Duration(usual/10) {
			t.Errorf("pause %d is from %v to %v at %d sites: they try again together", try, least, most, sites)
		}
		usual = min(usual*1.1, float64(maxPause))
	}
}
