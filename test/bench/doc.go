// Package bench measures the built program and its alternatives, in one run on one machine. Its
// tests have the build tag bench.
//
//   - `make bench` measures pulls, pushes, memory and the first sync (figures_test.go).
//   - `make bench-links` measures syncs over poor links (links_test.go).
//   - `make bench-fleet` measures a root with thousands of simulated connected registries
//     (fleet_test.go).
//
// Each prints a table of docs/performance.md; with UPDATE=1, it writes the table there.
package bench
