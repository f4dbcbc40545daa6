package demo

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"ferry/internal/config"
)

// A screen is what the demo says, by these rules:
//
//   - A step has a title; what was typed begins with "$"; what came of it is
//     indented below.
//   - On a terminal titles are bold, commands are dim, and what takes time
//     has a bar. Elsewhere there are neither colours nor bars, only lines.
//   - Every line makes sense without those before it on the screen.
type screen struct {
	out      io.Writer
	terminal bool
	color    bool
	columns  int // of the terminal; 0 is any number
	steps    int
	bar      bool      // the cursor is behind one
	shown    time.Time // when something was
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

// typed shows a command, which goes on in the next of lines.
func (s *screen) typed(lines ...string) {
	s.say("%s", s.style("2", "$ "+strings.Join(lines, " \\\n    ")))
}

// words are those of the lines of a command; what is in quotes is one.
func words(lines ...string) (all []string) {
	for i, part := range strings.Split(strings.Join(lines, " "), "'") {
		if i%2 == 1 {
			all = append(all, part)
		} else {
			all = append(all, strings.Fields(part)...)
		}
	}
	return all
}

// Indent is how many characters stand before a line that says what came of a command.
const Indent = 3

// say shows what came of it.
func (s *screen) say(format string, args ...any) {
	for text := range strings.Lines(fmt.Sprintf(format, args...) + "\n") {
		for _, line := range s.wrap(strings.TrimSuffix(text, "\n")) {
			if line != "" {
				line = strings.Repeat(" ", Indent) + line
			}
			s.write(line + "\n")
		}
	}
}

// wrap breaks a line between words, where it has more than the terminal's columns.
func (s *screen) wrap(line string) (all []string) {
	width := s.columns - Indent
	for s.columns > 0 && utf8.RuneCountInString(line) > width {
		at := strings.LastIndex(string([]rune(line)[:width]), " ")
		if at <= 0 || strings.Contains(line, "\x1b") { // one long word, or what has a colour
			break
		}
		all, line = append(all, line[:at]), line[at+1:]
	}
	return append(all, line)
}

// How often progress is shown, on a terminal and elsewhere.
const (
	drawEvery = 60 * time.Millisecond
	lineEvery = 2 * time.Second
)

// progress shows how many bytes are done of something that takes time, but
// neither at once nor too often. What came of it is said next.
func (s *screen) progress(what string, done, total int64) {
	every := lineEvery
	if s.terminal {
		every = drawEvery
	}
	if time.Since(s.shown) < every {
		return
	}
	done = min(done, total)
	text := fmt.Sprintf("%s: %s of %s", what, config.SizeText(done), config.SizeText(total))
	if !s.terminal {
		s.say("%s", text)
		return
	}
	const width = 30
	full := int(width * done / max(total, 1))
	s.write(fmt.Sprintf("   %s%s  %s", strings.Repeat("█", full), strings.Repeat("░", width-full), text))
	s.bar = true
}

// write writes text in place of the bar, if there is one.
func (s *screen) write(text string) {
	if s.bar {
		text = "\r\x1b[K" + text
	}
	s.bar, s.shown = false, time.Now()
	io.WriteString(s.out, text)
}
