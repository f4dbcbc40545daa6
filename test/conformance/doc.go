// Package conformance runs the test suite of the OCI distribution specification against
// the built program. Its test has the build tag conformance;
// `make conformance` runs it.
package conformance
