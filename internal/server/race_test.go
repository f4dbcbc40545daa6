//go:build race

package server_test

// raceDetector is whether the tests run under the race detector, with which
// times mean nothing.
const raceDetector = true
