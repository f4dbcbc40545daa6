// Package deploy tests the files in deploy/ and the metrics that they use: against real instances,
// and with Prometheus' promtool where it is installed.
package deploy
