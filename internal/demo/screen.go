package demo

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"ferry/internal/config"
)

// A screen is the output of the demo. Its rules:
//
//   - A step has a title. A command begins with "$"; its results are indented below.
//   - On a terminal, titles are bold, commands are dim, and progress is a bar. Elsewhere,
//     there are neither colours nor bars, only lines.
//   - Every line makes sense by itself.
type screen struct {
	out      io.Writer
	terminal bool
	color    bool
	columns  int // the width of the terminal; 0 is no limit
	steps    int
	bar      bool      // the cursor is at the end of a bar
	shown    time.Time // the time of the last output
}

func (s *screen) style(code, text string) string {
	if !s.color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// title begins a step.
func (s *screen) title(format string, args ...any) {
	s.steps++
	text := fmt.Sprintf("%d. %s", s.steps, fmt.Sprintf(format, args...))
	s.write("\n" + s.style("1", text) + "\n")
}

// command shows a command of several lines.
func (s *screen) command(lines ...string) {
	s.print("%s", s.style("2", "$ "+strings.Join(lines, " \\\n    ")))
}

// splitWords returns the words of the lines of a command. A quoted text is one word.
func splitWords(lines ...string) (all []string) {
	for i, part := range strings.Split(strings.Join(lines, " "), "'") {
		if i%2 == 1 {
			all = append(all, part)
		} else {
			all = append(all, strings.Fields(part)...)
		}
	}
	return all
}

// Indent is the indentation of results, in characters.
const Indent = 3

// print shows results.
func (s *screen) print(format string, args ...any) {
	for text := range strings.Lines(fmt.Sprintf(format, args...) + "\n") {
		for _, line := range s.wrap(strings.TrimSuffix(text, "\n")) {
			if line != "" {
				line = strings.Repeat(" ", Indent) + line
			}
			s.write(line + "\n")
		}
	}
}

// wrap breaks a line that is too long for the terminal between words.
func (s *screen) wrap(line string) (all []string) {
	width := s.columns - Indent
	for s.columns > 0 && utf8.RuneCountInString(line) > width {
		at := strings.LastIndex(string([]rune(line)[:width]), " ")
		if at <= 0 || strings.Contains(line, "\x1b") { // one long word, or a coloured line
			break
		}
		all, line = append(all, line[:at]), line[at+1:]
	}
	return append(all, line)
}

// The least time between two updates of the progress, on a terminal and elsewhere.
const (
	drawInterval = 60 * time.Millisecond
	lineInterval = 2 * time.Second
)

// progress shows the progress of an operation in bytes, unless there was output a short
// time ago.
func (s *screen) progress(label string, done, total int64) {
	every := lineInterval
	if s.terminal {
		every = drawInterval
	}
	if time.Since(s.shown) < every {
		return
	}
	done = min(done, total)
	text := fmt.Sprintf("%s: %s of %s", label, config.SizeText(done), config.SizeText(total))
	if !s.terminal {
		s.print("%s", text)
		return
	}
	const width = 30
	full := int(width * done / max(total, 1))
	s.write(fmt.Sprintf("   %s%s  %s", strings.Repeat("█", full), strings.Repeat("░", width-full), text))
	s.bar = true
}

// write writes text. It replaces the bar, if there is one.
func (s *screen) write(text string) {
	if s.bar {
		text = "\r\x1b[K" + text
	}
	s.bar, s.shown = false, time.Now()
	io.WriteString(s.out, text)
}
