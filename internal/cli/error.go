package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// A usageError is a command that could not be understood: exit code 2.
type usageError struct{ error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// A hinted error carries what its reader can do about it.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// Hint returns the advice, without a full stop.
func (h hinted) Hint() string { return h.hint }

func withHint(err error, format string, args ...any) error {
	return hinted{err, fmt.Sprintf(format, args...)}
}

// report writes err as every command does: one line with what happened and,
// where there is one, a line with what to do. It returns the exit code.
func report(w io.Writer, err error) int {
	fmt.Fprintf(w, "ferry: %s\n", oneLine(err.Error()))
	var h interface{ Hint() string }
	if errors.As(err, &h) && h.Hint() != "" {
		fmt.Fprintf(w, "hint: %s\n", oneLine(h.Hint()))
	}
	var usage usageError
	if errors.As(err, &usage) {
		return 2
	}
	return 1
}

// oneLine keeps what came from elsewhere from moving the cursor or faking a
// line of its own.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' || r < ' ' || r == 0x7f }), " ")
}
