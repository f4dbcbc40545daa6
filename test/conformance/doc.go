// Package conformance runs the test suite of the OCI distribution specification: [Run] at any
// registry, and its test, which has the build tag conformance, at one process of the built
// program. `make conformance` runs it.
package conformance
