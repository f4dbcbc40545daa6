package connected_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/api"
)

func TestDeactivatedRegistrySaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		d := root.push("app/a", "1", "v1", 10)
		c := root.connectedRegistry("ship1", api.RegistryPut{})
		first, second := root.child("ship1"), root.child("ship1")
		stop := root.start(first, c)
		first.awaitTag("app/a", "v1", d)
		time.Sleep(time.Minute)
		if _, err := root.fleet.Deactivate(t.Context(), by, "ship1"); err != nil {
			t.Fatal(err)
		}
		await(t, "the site says why", func() bool {
			code, text := first.detail()
			return code == "Deactivated" && strings.Contains(text, "deactivated at the root") &&
				strings.Contains(text, "ferry sync now")
		})
		if s := first.agent.Status(); s.State != "Unhealthy" || s.SyncState != "NotActivated" {
			t.Errorf("it is %s, %s", s.State, s.SyncState)
		}
		stop()
		root.start(second, c)
		second.awaitTag("app/a", "v1", d)
		root.start(first, c)
		await(t, "the site says that another has its place", func() bool {
			code, text := first.detail()
			return code == "ParentRefuses" && strings.Contains(text, "another instance")
		})
	})
}

func TestRefusalIsKnownAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		d := root.push("app/a", "1", "v1", 10)
		ship := root.connect("ship1", api.RegistryPut{Settings: nightly()})
		ship.awaitTag("app/a", "v1", d)
		password := api.SettingsPost{ParentProtocol: "http", GeneratePassword: 1}
		if _, err := root.fleet.InstanceSettings(t.Context(), by, "ship1", password); err != nil {
			t.Fatal(err)
		}
		await(t, "the site is refused", func() bool { code, _ := ship.detail(); return code == "ParentRefuses" })
		time.Sleep(3 * time.Hour) // the window is closed
		ship.stop()
		ship.restart()
		if code, _ := ship.detail(); code != "ParentRefuses" || ship.agent.Status().State != "Unhealthy" {
			t.Errorf("after a restart between two windows: %q, %s", code, ship.agent.Status().State)
		}
	})
}
