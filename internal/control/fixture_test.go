package control_test

import "ferry/internal/fleet/fleettest"

// start is the initial time of every instance's clock.
var start = fleettest.Start

type object = map[string]any
