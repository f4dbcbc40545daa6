// Package terminal says which characters of text a terminal acts on, and makes text
// of other machines safe to show: a repository's name or an error could move the
// cursor, fake a line of the program's own, or turn what follows around. [Printable]
// is for words, and [Escape] for JSON, which has a form for such characters. Every
// form of output goes through one of them, and so do logs.
package terminal

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Acts reports whether a terminal acts on r: C0, C1, DEL, what reorders text from
// right to left, and Unicode's own ends of lines.
func Acts(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
}

// Printable is text on one line, with a space in place of what a terminal acts on.
func Printable(text string) string {
	text = strings.ToValidUTF8(text, string(utf8.RuneError)) // a lone byte may be a C1 control
	return strings.Join(strings.FieldsFunc(text, Acts), " ")
}

// Clip returns text without what is behind its first most bytes, and without bytes
// that are no character, as one that was cut is none.
func Clip(text string, most int) string { return strings.ToValidUTF8(text[:min(len(text), most)], "") }

// Excerpt is the first most bytes of text, without half a character at their end, and
// "..." if there is more. Messages quote with it what a stranger sent.
func Excerpt(text string, most int) string {
	if len(text) <= most {
		return text
	}
	end := most
	for end > max(most-utf8.UTFMax, 0) && !utf8.RuneStart(text[end]) {
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

// Hides reports whether text of several lines has something that a terminal acts on.
func Hides(text []byte) bool { return bytes.IndexFunc(text, hidden) >= 0 }

// hidden is Acts without what stands between the values of JSON.
func hidden(r rune) bool { return Acts(r) && r != '\n' }

// Escape writes \u and a number for all that a terminal acts on in JSON, which can
// have it in its strings only. All of it fits in four digits.
func Escape(json []byte) []byte {
	if !Hides(json) {
		return json
	}
	var b bytes.Buffer
	for _, r := range string(json) {
		if hidden(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.Bytes()
}

// An EscapingWriter writes JSON, a whole value at a time, through [Escape].
type EscapingWriter struct{ io.Writer }

// Write implements io.Writer.
func (w EscapingWriter) Write(json []byte) (int, error) {
	if _, err := w.Writer.Write(Escape(json)); err != nil {
		return 0, err
	}
	return len(json), nil
}
