package connected_test

import (
	"testing"
	"testing/synctest"

	"ferry/internal/api"
)

func TestChangedTagFiltersAddAndRemoveTags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		one, two := root.push("app/a", "1", "v1.0", 10), root.push("app/a", "2", "v2.0", 10)
		ship := root.connect("ship1", api.RegistryPut{Settings: api.Settings{TagFilters: []string{"v1.*"}}})
		ship.awaitTag("app/a", "v1.0", one)
		if !ship.serves("app/a", "v2.0", "") {
			t.Error("a tag came that no filter matches")
		}
		update := func(s api.Settings) {
			t.Helper()
			root.update("ship1", s)
		}
		update(api.Settings{TagFilters: []string{">=2"}})
		ship.awaitTag("app/a", "v2.0", two)
		ship.awaitTag("app/a", "v1.0", "")
		update(api.Settings{TagFilters: []string{}})
		ship.awaitTag("app/a", "v1.0", one)
		last := 1
		update(api.Settings{KeepLast: &last})
		ship.awaitTag("app/a", "v1.0", "")
		three := root.push("app/a", "3", "v0.3", 10)
		ship.awaitTag("app/a", "v0.3", three)
		ship.awaitTag("app/a", "v2.0", "")
	})
}
