package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"ferry/internal/api"
	"ferry/internal/terminal"
)

const (
	// pollInterval is the time between two requests for the progress.
	pollInterval = 500 * time.Millisecond
	// lineInterval is the least time between two lines, if there is no terminal for a bar.
	lineInterval = 3 * time.Second
)

// errInterrupted says that a person interrupted a wait.
var errInterrupted = errors.New("interrupted; the registry goes on")

// A progress is the progress of a sync, an image, an import, a run or a scrub.
type progress struct {
	api.ByteProgress
	running bool
	name    string // the name of the bar; "" is syncing
	waiting string // why no bytes are received; "" if they are
}

// progressOf returns the progress of a sync, an import or a mirror rule's run from its
// state. why says why no bytes are received; it may be nil.
func progressOf(state string, why *string, bytes api.ByteProgress) progress {
	p := progress{ByteProgress: bytes}
	switch state {
	case api.Syncing:
		p.running = true
	case api.Pending, "Waiting", "Interrupted":
		p.running, p.waiting = true, "waiting for its turn"
	case "Running":
		p.running = true
		switch {
		case value(why) != "":
			p.waiting = "waiting for the source: " + terminal.Printable(*why)
		case p.BytesTotal == 0:
			p.waiting = "asking the source for its tags"
		}
	}
	return p
}

// await polls v with read until it no longer runs. It shows the progress: as a bar on a
// terminal, else as a line now and then.
func await[T any](
	ctx context.Context, e *Env, v result[T], of func(T) progress, read func(context.Context) (result[T], error),
) (result[T], error) {
	ask := func(ctx context.Context) (_ sample, err error) {
		if v, err = read(ctx); err != nil {
			return sample{}, err
		}
		return sample{all: of(v.value)}, nil
	}
	watch := printProgress
	if e.draws(e.Stderr) {
		watch = drawProgress
	}
	defer e.waits.suspend()()
	err := watch(ctx, e.Stderr, of(v.value), ask)
	if err != nil && ctx.Err() != nil { // the interruption caused the error
		err = errInterrupted
	}
	return v, err
}

// printProgress prints the progress of a sync as lines, until it is over. It prints a line
// only if it changed, and at most one in [lineInterval].
func printProgress(ctx context.Context, out io.Writer, now progress, ask func(context.Context) (sample, error)) error {
	said, at := "", time.Now()
	tell := func(now sample) {
		if line := progressLine(now.all); line != said && time.Since(at) >= lineInterval {
			fmt.Fprintln(out, line)
			said, at = line, time.Now()
		}
	}
	return poll(ctx, sample{all: now}, tell, ask)
}

// poll shows a sample and asks for the next one, until the sync is over.
func poll(
	ctx context.Context, now sample, show func(sample), ask func(context.Context) (sample, error),
) error {
	for answered := time.Now(); now.all.running; {
		show(now)
		select {
		case <-time.After(pollInterval):
		case <-ctx.Done():
			return errInterrupted
		}
		next, err := ask(ctx)
		switch {
		case err == nil:
			now, answered = next, time.Now()
		case !transient(err) || time.Since(answered) > patience:
			return err
		}
	}
	return nil
}

// patience is how long a command that waits for the end of something lets its registry be away,
// such as for a restart.
const patience = time.Minute

const (
	// maxImageBars bounds the number of images with a bar of their own.
	maxImageBars = 5
	// barNameWidth is the width of an image's name before its bar, in characters.
	barNameWidth = 20
)

// A sample is the progress of a sync and of the images that it fetches, at one time.
type sample struct {
	all    progress
	images []api.SyncItem
}

// drawProgress draws a running sync on a terminal until it is over. The rate and the time
// left are the site's own, because a measurement here would begin at zero.
func drawProgress(ctx context.Context, out io.Writer, now progress, ask func(context.Context) (sample, error)) error {
	b := &syncBoard{bars: map[string]*syncBar{}, drawn: mpb.NewWithContext(
		ctx, mpb.WithOutput(out), mpb.WithWidth(80), mpb.WithRefreshRate(pollInterval/2), mpb.WithAutoRefresh(),
	)}
	defer b.close()
	return poll(ctx, sample{all: now}, b.show, ask)
}

// A syncBoard is the bars of a running sync by their names: one for the sync, and one for
// each image that it fetches.
type syncBoard struct {
	drawn *mpb.Progress
	bars  map[string]*syncBar
}

// show draws a sample.
func (b *syncBoard) show(now sample) {
	shown := map[string]bool{}
	draw := func(name string, p progress) {
		if b.bars[name] == nil {
			b.bars[name] = b.add(name)
		}
		b.bars[name].show(p)
		b.drawn.UpdateBarPriority(b.bars[name].bar, len(shown), false)
		shown[name] = true
	}
	draw(cmp.Or(now.all.name, "syncing"), now.all)
	for _, item := range now.images[:min(len(now.images), maxImageBars)] {
		draw(" "+itemName(item), progress{ByteProgress: api.ByteProgress{
			BytesTotal: value(item.BytesTotal), BytesDone: value(item.BytesDone),
			BytesPerSecond: value(item.BytesPerSecond), EtaSeconds: item.EtaSeconds,
		}})
	}
	for name, bar := range b.bars {
		if !shown[name] {
			bar.bar.Abort(true)
			delete(b.bars, name)
		}
	}
}

// close removes the bars from the terminal.
func (b *syncBoard) close() {
	for _, bar := range b.bars {
		bar.bar.Abort(true)
	}
	b.drawn.Wait()
}

// A syncBar is a bar with the text beside it.
type syncBar struct {
	bar    *mpb.Bar
	beside atomic.Pointer[string]
}

func (b *syncBoard) add(name string) *syncBar {
	s := &syncBar{}
	s.bar = b.drawn.AddBar(0, // with a total above 0, mpb would complete the bar by itself
		mpb.PrependDecorators(decor.Name(
			shorten(name, barNameWidth), decor.WC{W: barNameWidth, C: decor.DindentRight},
		)),
		mpb.AppendDecorators(decor.Any(
			func(decor.Statistics) string { return value(s.beside.Load()) },
			decor.WC{C: decor.DindentRight | decor.DSyncWidth},
		)))
	return s
}

// show draws the progress.
func (s *syncBar) show(p progress) {
	text := " " + progressLine(p)
	s.beside.Store(&text)
	total := max(p.BytesTotal, 1)
	s.bar.SetTotal(total, false)
	s.bar.SetCurrent(min(p.BytesDone, total-1))
}

// progressLine returns the progress as text, for a line or for the space beside a bar. Both
// fit in 80 columns, unless the text is the reason for a wait.
func progressLine(p progress) string {
	if p.waiting != "" {
		return p.waiting
	}
	return progressText(p.ByteProgress) + rateAndTimeLeft(p.ByteProgress)
}

// itemName returns the name of an item's image.
func itemName(i api.SyncItem) string {
	if i.Tag != nil {
		return terminal.Printable(i.Repository + ":" + *i.Tag)
	}
	return terminal.Printable(i.Repository + "@" + shortDigest(value(i.ParentDigest)))
}

// shorten returns the last n characters of a text, with a mark if there are more.
func shorten(text string, n int) string {
	runes := []rune(text)
	if len(runes) <= n {
		return text
	}
	return " …" + string(runes[len(runes)-n+2:])
}
