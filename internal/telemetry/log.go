// Package telemetry is what an instance tells the people who run it: its log
// and its metrics.
package telemetry

import (
	"io"
	"log/slog"
)

// NewLogger returns a logger that writes lines of the given format, "text" or
// "json", to w, with times in UTC.
func NewLogger(w io.Writer, level slog.Leveler, format string) *slog.Logger {
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			a.Value = slog.TimeValue(a.Value.Time().UTC())
		}
		return a
	}}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
