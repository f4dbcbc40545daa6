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
	// askEvery is how often something that runs is asked how far it is.
	askEvery = 500 * time.Millisecond
	// lineEvery is how often at most somebody who sees no bar is told.
	lineEvery = 3 * time.Second
)

// errInterrupted is what becomes of a wait that a person breaks off.
var errInterrupted = errors.New("interrupted; it goes on at the registry")

// A progress is how far a sync, an image, an import or a run is.
type progress struct {
	api.ByteProgress
	running bool
	what    string // it does; "" is syncing
	waiting string // what it does where no bytes come
}

// progressOf is how far a sync, an import or a mirror rule's run in a state is.
// why is why no bytes come, if that is known.
func progressOf(state string, why *string, bytes api.ByteProgress) progress {
	p := progress{ByteProgress: bytes}
	switch state {
	case api.Syncing:
		p.running = true
	case api.Pending, "Waiting", "BrokenOff":
		p.running, p.waiting = true, "waiting for its turn"
	case "Running":
		p.running = true
		switch {
		case value(why) != "":
			p.waiting = "waiting for the source: " + terminal.Printable(*why)
		case p.BytesTotal == 0:
			p.waiting = "asking the source what there is"
		}
	}
	return p
}

// await reads v again and again while it runs, and tells how far it is: by a
// bar at a terminal, else by a line now and then.
func await[T any](
	ctx context.Context, e *Env, v result[T], of func(T) progress, read func(context.Context) (result[T], error),
) (result[T], error) {
	ask := func(ctx context.Context) (_ moment, err error) {
		if v, err = read(ctx); err != nil {
			return moment{}, err
		}
		return moment{all: of(v.value)}, nil
	}
	watch := tellSync
	if isTerminal(e.Stderr) {
		watch = watchSync
	}
	err := watch(ctx, e.Stderr, of(v.value), ask)
	if err != nil && ctx.Err() != nil { // whatever went wrong for that
		err = errInterrupted
	}
	return v, err
}

// tellSync says in plain lines how something that runs goes, until it is over:
// what changed, and not too often.
func tellSync(ctx context.Context, out io.Writer, now progress, ask func(context.Context) (moment, error)) error {
	said, at := "", time.Now()
	tell := func(now moment) {
		if line := besideBar(now.all); line != said && time.Since(at) >= lineEvery {
			fmt.Fprintln(out, line)
			said, at = line, time.Now()
		}
	}
	return follow(ctx, moment{all: now}, tell, ask)
}

// follow shows a moment and asks for the next, until nothing runs any more.
func follow(
	ctx context.Context, now moment, show func(moment), ask func(context.Context) (moment, error),
) (err error) {
	for now.all.running {
		show(now)
		select {
		case <-time.After(askEvery):
		case <-ctx.Done():
			return errInterrupted
		}
		if now, err = ask(ctx); err != nil {
			return err
		}
	}
	return nil
}

const (
	// mostBars is how many images have a bar at most, below that of the sync.
	mostBars = 5
	// barName is how many characters of an image's name stand before its bar.
	barName = 20
)

// A moment is how far a site's sync is, and the images that come next.
type moment struct {
	all    progress
	images []api.SyncItem
}

// watchSync draws a running sync on a terminal until it is over. The rates and
// the times that are left are the site's own: what is measured here would begin
// at nothing.
func watchSync(ctx context.Context, out io.Writer, now progress, ask func(context.Context) (moment, error)) error {
	b := &syncBoard{bars: map[string]*syncBar{}, drawn: mpb.NewWithContext(
		ctx, mpb.WithOutput(out), mpb.WithWidth(80), mpb.WithRefreshRate(askEvery/2), mpb.WithAutoRefresh(),
	)}
	defer b.close()
	return follow(ctx, moment{all: now}, b.show, ask)
}

// A syncBoard is the bars of a running sync, by what stands before them: one for
// all of it, and one for each of the images that come next.
type syncBoard struct {
	drawn *mpb.Progress
	bars  map[string]*syncBar
}

// show draws a moment.
func (b *syncBoard) show(now moment) {
	shown := map[string]bool{}
	draw := func(name string, p progress) {
		if b.bars[name] == nil {
			b.bars[name] = b.add(name)
		}
		b.bars[name].show(p)
		b.drawn.UpdateBarPriority(b.bars[name].bar, len(shown), false)
		shown[name] = true
	}
	draw(cmp.Or(now.all.what, "syncing"), now.all)
	for _, item := range now.images[:min(len(now.images), mostBars)] {
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

// close takes the bars off the terminal.
func (b *syncBoard) close() {
	for _, bar := range b.bars {
		bar.bar.Abort(true)
	}
	b.drawn.Wait()
}

// A syncBar is a bar with what stands beside it.
type syncBar struct {
	bar    *mpb.Bar
	beside atomic.Pointer[string]
}

func (b *syncBoard) add(name string) *syncBar {
	s := &syncBar{}
	s.bar = b.drawn.AddBar(0, // with another total here it would be done when that is reached
		mpb.PrependDecorators(decor.Name(shorten(name, barName), decor.WC{W: barName, C: decor.DindentRight})),
		mpb.AppendDecorators(decor.Any(
			func(decor.Statistics) string { return value(s.beside.Load()) },
			decor.WC{C: decor.DindentRight | decor.DSyncWidth},
		)))
	return s
}

// show draws how far something is.
func (s *syncBar) show(p progress) {
	text := " " + besideBar(p)
	s.beside.Store(&text)
	total := max(p.BytesTotal, 1)
	s.bar.SetTotal(total, false)
	s.bar.SetCurrent(min(p.BytesDone, total-1))
}

// besideBar is what stands beside a bar, or alone where there is none: short,
// so that 80 columns have room for both, unless it is why there is no more.
func besideBar(p progress) string {
	if p.waiting != "" {
		return p.waiting
	}
	return progressText(p.ByteProgress) + paceOf(p.ByteProgress)
}

// itemName is an item as images are named.
func itemName(i api.SyncItem) string {
	if i.Tag != nil {
		return terminal.Printable(i.Repository + ":" + *i.Tag)
	}
	return terminal.Printable(i.Repository + "@" + shortDigest(value(i.ParentDigest)))
}

// shorten leaves the end of a text that is longer than n characters.
func shorten(text string, n int) string {
	runes := []rune(text)
	if len(runes) <= n {
		return text
	}
	return " …" + string(runes[len(runes)-n+2:])
}
