// Package terminal makes text from other machines safe to show. A control character in the
// name of a repository or in an error could move the cursor, forge a line of output, or
// reverse the text after it. Every form of output, and the log, must use [Printable] for
// text, or [Escape] for JSON, which can represent such characters.
package terminal

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// IsControl reports whether a terminal acts on r: C0, C1, DEL, characters that reorder text from
// right to left, and the line separators of Unicode.
func IsControl(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
}

// Printable returns text on one line, with a space in place of control characters; see
// [IsControl].
func Printable(text string) string {
	text = strings.ToValidUTF8(text, string(utf8.RuneError)) // a lone byte may be a C1 control
	return strings.Join(strings.FieldsFunc(text, IsControl), " ")
}

// Clip returns at most limit bytes from the start of text, without bytes that are not valid
// UTF-8, such as half a character at the end.
func Clip(text string, limit int) string {
	return strings.ToValidUTF8(text[:min(len(text), limit)], "")
}

// Excerpt returns at most limit bytes from the start of text, without half a character at the
// end, and "..." if there are more. It is for messages that quote input.
func Excerpt(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	end := limit
	for end > max(limit-utf8.UTFMax, 0) && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "..."
}

// PrintableLines is [Printable] for text of several lines.
func PrintableLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = Printable(line)
	}
	return strings.Join(lines, "\n")
}

// HasControl reports whether text of several lines has control characters; see [IsControl].
func HasControl(text []byte) bool { return bytes.IndexFunc(text, isControlNotNewline) >= 0 }

// isControlNotNewline is IsControl, except for the end of a line.
func isControlNotNewline(r rune) bool { return IsControl(r) && r != '\n' }

// Escape replaces control characters in JSON by \u and four hex digits; see [IsControl].
// JSON can have such characters only in its strings.
func Escape(json []byte) []byte {
	if !HasControl(json) {
		return json
	}
	var b bytes.Buffer
	for _, r := range string(json) {
		if isControlNotNewline(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.Bytes()
}

// An EscapingWriter escapes JSON with [Escape]. Each Write must be a whole value.
type EscapingWriter struct{ io.Writer }

// Write implements io.Writer.
func (w EscapingWriter) Write(json []byte) (int, error) {
	if _, err := w.Writer.Write(Escape(json)); err != nil {
		return 0, err
	}
	return len(json), nil
}
