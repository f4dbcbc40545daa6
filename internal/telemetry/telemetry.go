// Package telemetry has the log, the metrics and the version of an instance.
package telemetry

import (
	"io"
	"log/slog"

	"ferry/internal/terminal"
)

// NewLogger returns a logger that writes lines in a format, "text" or "json", to w. Times
// are in UTC.
func NewLogger(w io.Writer, level slog.Leveler, format string) *slog.Logger {
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			a.Value = slog.TimeValue(a.Value.Time().UTC())
		}
		return a
	}}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(terminal.EscapingWriter{Writer: w}, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
