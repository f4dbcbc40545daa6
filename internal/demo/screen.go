package demo

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
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

// width is how many columns a command takes before it goes on in a next line.
const width = 76

// typed shows a command as a person would type it; redirection is its end, as
// the shell's.
func (s *screen) typed(words []string, redirection string) {
	line := "$"
	for _, u := range append(units(quoted(words)), redirection) {
		if u == "" {
			continue
		}
		if len(line)+1+len(u) > width {
			fmt.Fprintf(s.out, "   %s\n", s.style("2", line+" \\"))
			line = "   "
		}
		line += " " + u
	}
	fmt.Fprintf(s.out, "   %s\n", s.style("2", line))
}

// units joins flags with their values, between which no line ends.
func units(words []string) []string {
	var all []string
	for i, w := range words {
		if i > 0 && strings.HasPrefix(words[i-1], "-") && !strings.HasPrefix(w, "-") {
			all[len(all)-1] += " " + w
			continue
		}
		all = append(all, w)
	}
	return all
}

// say shows what came of it.
func (s *screen) say(format string, args ...any) {
	fmt.Fprintf(s.out, "   %s\n", fmt.Sprintf(format, args...))
}

// lineEvery is how often progress is told where there is no terminal.
const lineEvery = 2 * time.Second

// A bar is something that takes time, counted in bytes.
type bar struct {
	s      *screen
	what   string
	total  int64
	bars   *mpb.Progress
	bar    *mpb.Bar
	last   time.Time // it was told
	silent time.Time // no line before
}

// begin starts a bar for total bytes.
func (s *screen) begin(what string, total int64) *bar {
	b := &bar{s: s, what: what, total: total, last: time.Now(), silent: time.Now().Add(lineEvery)}
	if s.terminal {
		b.bars = mpb.New(mpb.WithOutput(s.out), mpb.WithWidth(32), mpb.WithRefreshRate(60*time.Millisecond), mpb.WithAutoRefresh())
		b.bar = b.bars.New(total, mpb.BarStyle().Lbound("").Rbound("").Filler("█").Tip("").Padding("░"),
			mpb.PrependDecorators(decor.Name("   "+what+"  ")),
			mpb.AppendDecorators(
				decor.Any(func(now decor.Statistics) string { return "  " + size(now.Current) }),
				decor.OnComplete(decor.EwmaSpeed(decor.SizeB1000(0), "  % .1f", 5), ""),
			))
	}
	return b
}

// at tells how many bytes are done.
func (b *bar) at(n int64) {
	n = min(n, b.total-1) // it ends with end
	if b.bar != nil {
		b.bar.EwmaSetCurrent(n, time.Since(b.last))
		b.last = time.Now()
		return
	}
	if now := time.Now(); now.After(b.silent) {
		b.silent = now.Add(lineEvery)
		b.s.say("%s: %s of %s", b.what, size(n), size(b.total))
	}
}

// end completes the bar, or with an error leaves it where it is.
func (b *bar) end(err error) {
	if b.bar == nil {
		return
	}
	if err != nil {
		b.bar.Abort(false)
	} else {
		b.bar.SetCurrent(b.total)
	}
	b.bars.Wait()
}

// size writes a number of bytes for people.
func size(n int64) string {
	const unit = 1000
	if n < unit {
		return fmt.Sprintf("%d bytes", n)
	}
	value, units := float64(n)/unit, "kMGT"
	for value >= unit && len(units) > 1 {
		value, units = value/unit, units[1:]
	}
	return fmt.Sprintf("%.1f %cB", value, units[0])
}

// quoted writes words so that a shell reads them back.
func quoted(words []string) []string {
	all := make([]string, len(words))
	for i, w := range words {
		if w == "" || strings.ContainsAny(w, " *?[]{}$&|;<>()'\"\\`!#~") {
			w = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		all[i] = w
	}
	return all
}
