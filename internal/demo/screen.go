package demo

import (
	"fmt"
	"io"
	"strings"
	"time"

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
	steps    int
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
	fmt.Fprintf(s.out, "\n%s\n", s.style("1", fmt.Sprintf("%d. %s", s.steps, fmt.Sprintf(format, args...))))
}

// typed shows a command, which goes on in the next of lines.
func (s *screen) typed(lines ...string) {
	text := "$ " + strings.Join(lines, " \\\n    ")
	for line := range strings.Lines(text) {
		s.say("%s", s.style("2", strings.TrimSuffix(line, "\n")))
	}
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

// say shows what came of it.
func (s *screen) say(format string, args ...any) {
	for line := range strings.Lines(fmt.Sprintf(format, args...) + "\n") {
		if line != "\n" {
			line = "   " + line
		}
		io.WriteString(s.out, line)
	}
}

// How often progress is shown, on a terminal and elsewhere.
const (
	drawEvery = 60 * time.Millisecond
	lineEvery = 2 * time.Second
)

// A progress is how far something is that takes time, counted in bytes.
type progress struct {
	s     *screen
	what  string
	total int64
	next  time.Time // nothing is shown before
}

func (s *screen) begin(what string, total int64) *progress {
	p := &progress{s: s, what: what, total: total}
	if !s.terminal {
		p.next = time.Now().Add(lineEvery)
	}
	return p
}

// at tells how many bytes are done.
func (p *progress) at(n int64) {
	now := time.Now()
	if now.Before(p.next) {
		return
	}
	n = min(n, p.total)
	text := fmt.Sprintf("%s: %s of %s", p.what, config.SizeText(n), config.SizeText(p.total))
	if !p.s.terminal {
		p.next = now.Add(lineEvery)
		p.s.say("%s", text)
		return
	}
	p.next = now.Add(drawEvery)
	const width = 30
	full := int(width * n / max(p.total, 1))
	fmt.Fprintf(p.s.out, "\r   %s%s  %s\x1b[K", strings.Repeat("█", full), strings.Repeat("░", width-full), text)
}

// end removes the bar: what came of it is said next.
func (p *progress) end() {
	if p.s.terminal {
		fmt.Fprint(p.s.out, "\r\x1b[K")
	}
}
