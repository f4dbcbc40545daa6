// Package bench measures the built program beside what a user would pick
// instead, in one run on one machine. Its test has the build tag bench;
// `make bench` prints the figures of docs/performance.md, and `make bench
// UPDATE=1` writes them there. `make bench-links` does so over poor links, and
// `make bench-fleet` with thousands of simulated connected registries.
package bench
