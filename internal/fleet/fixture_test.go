package fleet_test

import (
	"strings"
	"testing"

	"ferry/internal/fleet/fleettest"
	"ferry/internal/metadb"
)

// start is the initial time of every instance's clock.
var start = fleettest.Start

type object = map[string]any

// An instance is a root or a connected registry.
type instance struct{ *fleettest.Instance }

// onEvery runs test with a root on each database.
func onEvery(t *testing.T, test func(t *testing.T, root *instance)) {
	fleettest.OnEveryDatabase(t, func(t *testing.T, root *fleettest.Instance) { test(t, &instance{root}) })
}

// newRoot returns a root on SQLite.
func newRoot(t *testing.T) *instance { return &instance{fleettest.NewRoot(t)} }

// newInstance returns an instance; self is "" for a root.
func newInstance(t *testing.T, db *metadb.DB, self string) *instance {
	t.Helper()
	return &instance{fleettest.New(t, db, self)}
}

// look looks at every descendant, as [fleet.Service.Run] does soon after each change.
func (i *instance) look(t *testing.T) {
	t.Helper()
	if _, err := i.Standings(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func contains(v any, part string) bool {
	s, _ := v.(string)
	return strings.Contains(s, part)
}
