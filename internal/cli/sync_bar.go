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

// barEvery is how often a running sync is asked how far it is.
const barEvery = 500 * time.Millisecond

// watchSync draws a running sync's bytes on a terminal until it is over, and
// returns the last status. The rate and the time that is left are the site's
// own: what is measured here would begin at nothing.
func watchSync(ctx context.Context, out io.Writer, status map[string]any, ask func(context.Context) (map[string]any, error)) (map[string]any, error) {
	if cell(status["state"]) != "Syncing" {
		return status, nil
	}
	var said atomic.Pointer[string]
	say := func(decor.Statistics) string { return *said.Load() }
	show := func(bar *mpb.Bar) {
		text := besideBar(status)
		said.Store(&text)
		if bar != nil {
			bar.SetTotal(max(number(status["bytesTotal"]), 1), false)
			bar.SetCurrent(min(number(status["bytesDone"]), max(number(status["bytesTotal"])-1, 0)))
		}
	}
	show(nil)
	bars := mpb.NewWithContext(ctx, mpb.WithOutput(out), mpb.WithWidth(60), mpb.WithRefreshRate(barEvery/2), mpb.WithAutoRefresh())
	bar := bars.AddBar(0, // with another total here it would be done when that is reached
		mpb.PrependDecorators(decor.Name("syncing ")), mpb.AppendDecorators(decor.Any(say)))
	tick := time.NewTicker(barEvery)
	defer tick.Stop()
	var err error
	for err == nil && cell(status["state"]) == "Syncing" {
		show(bar)
		select {
		case <-tick.C:
			var now map[string]any
			if now, err = ask(ctx); err == nil {
				status = now
			}
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	bar.Abort(true)
	bars.Wait()
	return status, err
}

// besideBar is what stands beside the bar of a running sync: short, so that
// 80 columns have room for both.
func besideBar(s map[string]any) string {
	text := fmt.Sprintf(" %s of %s", size(number(s["bytesDone"])), size(number(s["bytesTotal"])))
	if rate := number(s["bytesPerSecond"]); rate > 0 {
		text += fmt.Sprintf(", %s/s", size(rate))
	}
	if eta, ok := s["etaSeconds"].(float64); ok {
		text += fmt.Sprintf(", %s left", time.Duration(eta)*time.Second)
	}
	return text
}
