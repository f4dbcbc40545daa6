package cli

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What other machines say is shown on a terminal, which acts on some characters:
// a repository's name or an error could move the cursor, fake a line of the
// command's own, or turn what follows around. [printable] is for words, and
// [escape] for JSON and YAML, which have a form for such characters. Every form
// of output goes through one of them.

// isControl reports whether a terminal would act on r: C0, C1, DEL, what
// reorders text from right to left, and Unicode's own ends of lines.
func isControl(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
}

// printable is text on one line, with a space in place of what a terminal acts on.
func printable(text string) string {
	text = strings.ToValidUTF8(text, string(utf8.RuneError)) // a lone byte may be a C1 control
	return strings.Join(strings.FieldsFunc(text, isControl), " ")
}

// printableLines is [printable] for text of several lines.
func printableLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = printable(line)
	}
	return strings.Join(lines, "\n")
}

// isHidden is [isControl] without what stands between the values of JSON.
func isHidden(r rune) bool { return isControl(r) && r != '\n' }

// escape writes \u and a number for all that a terminal acts on in JSON, which
// can have it in its strings only. All of it fits in four digits.
func escape(json []byte) []byte {
	if bytes.IndexFunc(json, isHidden) < 0 {
		return json
	}
	var b bytes.Buffer
	for _, r := range string(json) {
		if isHidden(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.Bytes()
}
