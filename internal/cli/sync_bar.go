package cli

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

const (
	// barEvery is how often a running sync is asked how far it is.
	barEvery = 500 * time.Millisecond
	// mostBars is how many images have a bar at most, below that of the sync.
	mostBars = 5
	// barName is how many characters of an image's name stand before its bar.
	barName = 20
)

// A moment is how a site's sync goes, and the images that come next.
type moment struct {
	status   map[string]any
	underway []any
}

// watchSync draws a running sync on a terminal until it is over, and returns
// the last status. The rates and the times that are left are the site's own:
// what is measured here would begin at nothing.
func watchSync(ctx context.Context, out io.Writer, status map[string]any, ask func(context.Context) (moment, error)) (map[string]any, error) {
	if cell(status["state"]) != "Syncing" {
		return status, nil
	}
	b := newSyncBoard(ctx, out)
	defer b.close()
	tick := time.NewTicker(barEvery)
	defer tick.Stop()
	for now := (moment{status: status}); ; {
		b.show(now)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return now.status, errInterrupted
		}
		next, err := ask(ctx)
		if err != nil || cell(next.status["state"]) != "Syncing" {
			return next.status, err
		}
		now = next
	}
}

// A syncBoard is the bars of a running sync: one for all of it, and one for
// each of the images that come next.
type syncBoard struct {
	bars   *mpb.Progress
	all    *syncBar
	images map[string]*syncBar
}

func newSyncBoard(ctx context.Context, out io.Writer) *syncBoard {
	b := &syncBoard{images: map[string]*syncBar{}}
	b.bars = mpb.NewWithContext(ctx, mpb.WithOutput(out), mpb.WithWidth(80), mpb.WithRefreshRate(barEvery/2), mpb.WithAutoRefresh())
	b.all = b.add("syncing")
	return b
}

// show draws a moment.
func (b *syncBoard) show(now moment) {
	b.all.show(now.status)
	shown := map[string]bool{}
	for i, v := range now.underway[:min(len(now.underway), mostBars)] {
		item, _ := v.(map[string]any)
		name := itemName(item)
		shown[name] = true
		if b.images[name] == nil {
			b.images[name] = b.add(" " + name)
		}
		b.images[name].show(item)
		b.bars.UpdateBarPriority(b.images[name].bar, i+1, false)
	}
	for name, bar := range b.images {
		if !shown[name] {
			bar.bar.Abort(true)
			delete(b.images, name)
		}
	}
}

// close takes the bars off the terminal.
func (b *syncBoard) close() {
	for _, bar := range b.images {
		bar.bar.Abort(true)
	}
	b.all.bar.Abort(true)
	b.bars.Wait()
}

// A syncBar is a bar with what stands beside it.
type syncBar struct {
	bar    *mpb.Bar
	beside atomic.Pointer[string]
}

func (b *syncBoard) add(name string) *syncBar {
	s := &syncBar{}
	s.beside.Store(new(string))
	s.bar = b.bars.AddBar(0, // with another total here it would be done when that is reached
		mpb.PrependDecorators(decor.Name(shorten(name, barName), decor.WC{W: barName, C: decor.DindentRight})),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return *s.beside.Load() }, decor.WC{C: decor.DindentRight | decor.DSyncWidth})))
	return s
}

// show draws how far v is, which has the members of a status or an item.
func (s *syncBar) show(v map[string]any) {
	text := " " + besideBar(v)
	s.beside.Store(&text)
	total := max(number(v["bytesTotal"]), 1)
	s.bar.SetTotal(total, false)
	s.bar.SetCurrent(min(number(v["bytesDone"]), total-1))
}

// besideBar is what stands beside a bar, or alone where there is none: short,
// so that 80 columns have room for both, unless it is why there is no more.
func besideBar(v map[string]any) string {
	if waiting := cell(v["waiting"]); waiting != "" {
		return waiting
	}
	return fmt.Sprintf("%s of %s%s", size(number(v["bytesDone"])), size(number(v["bytesTotal"])), paceOf(v))
}

// itemName is an item as images are named.
func itemName(item map[string]any) string {
	if tag := cell(item["tag"]); tag != "" {
		return cell(item["repository"]) + ":" + tag
	}
	return cell(item["repository"]) + "@" + shortDigest(item["parentDigest"])
}

// shorten leaves the end of a text that is longer than n characters.
func shorten(text string, n int) string {
	runes := []rune(text)
	if len(runes) <= n {
		return text
	}
	return " …" + string(runes[len(runes)-n+2:])
}
