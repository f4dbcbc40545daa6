package connected_test

import (
	"testing"
	"testing/synctest"

	"ferry/internal/api"
	"ferry/internal/retention"
)

// TestPurgeWaitsForAConnectedRegistry moves a tag while the link is down. The old image stays at the root
// until the connected registry has heard of that.
func TestPurgeWaitsForAConnectedRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		first := root.push("app/a", "1", "v1", 10)
		ship := root.connect("ship1", api.RegistryPut{})
		ship.awaitTag("app/a", "v1", first)
		await(t, "the root knows that", func() bool { return root.known(ship) == root.head() })
		purger := retention.New(retention.Options{Storage: root.Storage, DB: root.DB, Fleet: root.fleet})
		purge := func() retention.Result {
			t.Helper()
			policy := retention.Policy{Filters: []string{"app/*:."}, Untagged: true}
			r, err := purger.Purge(t.Context(), retention.Step{Policy: policy})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}

		root.link.cut()
		second := root.push("app/a", "2", "v1", 10)
		if r := purge(); r.Manifests != 0 || r.Held != 1 || r.Kept[0].Digest != first ||
			len(r.Kept[0].Registries) != 1 || r.Kept[0].Registries[0] != "ship1" {
			t.Errorf("while the link is down: %+v", r)
		}
		root.link.restore()
		ship.awaitTag("app/a", "v1", second)
		await(t, "the root knows that", func() bool { return root.known(ship) == root.head() })
		if r := purge(); r.Manifests != 1 || r.Held != 0 || r.Removed[0].Digest != first {
			t.Errorf("after the connected registry heard: %+v", r)
		}

		root.link.cut()
		root.push("app/a", "3", "v1", 10)
		root.push("other", "4", "v1", 10)
		root.push("other", "5", "v1", 10)
		policy := retention.Policy{Filters: []string{"other:."}, Untagged: true}
		if r, err := purger.Purge(t.Context(), retention.Step{Policy: policy}); err != nil || r.Manifests != 1 {
			t.Errorf("a repository that it does not get: %+v, %v", r, err)
		}
	})
}
