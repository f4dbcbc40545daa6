// Package conformance runs the OCI distribution specification's own suite
// against the built program. Its test has the build tag conformance;
// `make conformance` runs it.
package conformance
