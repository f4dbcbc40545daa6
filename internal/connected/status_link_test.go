package connected_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/api"
)

// detail returns the only detail of s's status, and its code; "" is none.
func (s *instance) detail() (code, description string) {
	s.T.Helper()
	switch all := s.agent.Status().Details; len(all) {
	case 0:
		return "", ""
	case 1:
		return all[0].Code, all[0].Description
	default:
		s.T.Fatalf("more than one thing is wrong: %+v", all)
		return "", ""
	}
}

func TestStatusSaysSinceWhenTheLinkIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ship, _ := newPair(t, 10)
		await(t, "all is well", func() bool { code, _ := ship.detail(); return code == "" })

		root.link.cut()
		lost := time.Now()
		time.Sleep(time.Hour)
		s := ship.agent.Status()
		if code, text := ship.detail(); s.State != "Offline" || code != "LinkDown" ||
			!strings.Contains(text, "network is unreachable") {
			t.Errorf("%s, %s: %q; want it to be Offline with a reason", s.State, code, text)
		}
		if since := s.Details[0].Timestamp.Sub(lost); since < 0 || since > 2*time.Minute {
			t.Errorf("the link is said to be down since %v after it went", since)
		}
		heard := ship.agent.LastAnswer()
		ship.stop()
		ship.restart()
		if again := ship.agent.LastAnswer(); heard.After(lost) || again.IsZero() || heard.Sub(again) > 11*time.Minute {
			t.Errorf("the parent was heard at %v, after a restart at %v; it went at %v", heard, again, lost)
		}
		root.link.restore()
		await(t, "the link is back",
			func() bool { code, _ := ship.detail(); return code == "" && ship.agent.Status().State == "Online" })
		await(t, "its parent never hears that it was not heard", func() bool {
			r, err := root.fleet.Get(t.Context(), by, "ship1")
			return err == nil && r.ConnectionState == "Online" && len(r.StatusDetails) == 0
		})

		// The site does not know the new password.
		if _, err := root.fleet.InstanceSettings(t.Context(), by, "ship1",
			api.SettingsPost{ParentProtocol: "http", GeneratePassword: 1}); err != nil {
			t.Fatal(err)
		}
		await(t, "the refusal is seen", func() bool {
			code, _ := ship.detail()
			return code == "ParentRefuses" && ship.agent.Status().State == "Unhealthy"
		})
	})
}

func TestTimeLeftIsUnknownWhileTheLinkIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		ship := root.connect("ship1", api.RegistryPut{Repositories: []string{"*"}})
		await(t, "all is well", func() bool { code, _ := ship.detail(); return code == "" })
		root.rate.Store(100_000)
		root.push("app/a", "1", "v1", 20<<20)
		left := func() (seconds int64) {
			all, err := ship.agent.InFlight(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range all {
				seconds += i.SecondsLeft + i.BytesPerSecond
			}
			return seconds
		}
		await(t, "a time is known", func() bool { return ship.agent.Status().BytesPerSecond > 0 && left() > 0 })
		root.link.cut()
		await(t, "the link is down", func() bool { code, _ := ship.detail(); return code == "LinkDown" })
		if rate, left := ship.agent.Status().BytesPerSecond, left(); rate != 0 || left != 0 {
			t.Errorf("with the link down %d B/s are said, and %d of the items", rate, left)
		}
	})
}

func TestStatusDetailsSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		root.push("app/a", "1", "v1", large)
		if err := root.loseBlob("app/a", root.PushBlob("app/a", []byte("config 1")).Digest); err != nil {
			t.Fatal(err)
		}
		ship := root.connect("ship1", api.RegistryPut{Settings: nightly()})
		await(t, "the sync failed", func() bool { code, _ := ship.detail(); return code == "ItemsFailed" })
		time.Sleep(90 * time.Minute) // the window is closed
		ship.stop()
		ship.restart()
		if code, text := ship.detail(); code != "ItemsFailed" || !strings.Contains(text, "app/a v1") ||
			ship.agent.Status().State != "Unhealthy" {
			t.Errorf("after a restart: %s %q", code, text)
		}
	})
}

func TestStatusShowsARunningSyncAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		root.push("app/a", "1", "v1", large)
		if err := root.loseBlob("app/a", root.PushBlob("app/a", []byte("config 1")).Digest); err != nil {
			t.Fatal(err)
		}
		ship := root.connect("ship1", api.RegistryPut{})
		await(t, "the sync failed", func() bool { code, _ := ship.detail(); return code == "ItemsFailed" })
		root.rate.Store(1000)
		root.push("app/b", "2", "v1", large)
		await(t, "the next sync is seen, and what was wrong", func() bool {
			code, _ := ship.detail()
			return code == "ItemsFailed" && ship.agent.Status().State == "Syncing"
		})
	})
}
