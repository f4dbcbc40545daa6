package control_test

import "ferry/internal/fleet/fleettest"

// start is when the clock of every instance begins.
var start = fleettest.Start

type object = map[string]any
