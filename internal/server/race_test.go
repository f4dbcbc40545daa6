//go:build race

package server_test

// raceDetector reports whether the tests run under the race detector. Times mean nothing
// then.
const raceDetector = true
