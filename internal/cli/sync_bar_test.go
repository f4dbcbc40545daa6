package cli

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
)

func TestARunningSyncIsDrawnUntilItIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		status := func(state string, done, left float64) map[string]any {
			return map[string]any{
				"state": state, "bytesDone": done * (1 << 20), "bytesTotal": 4. * (1 << 20), "bytesPerSecond": 2048., "etaSeconds": left, "itemsPending": 1.,
			}
		}
		asked := 0
		ask := func(context.Context) (moment, error) {
			if asked++; asked == 4 {
				return moment{status: status("Online", 4, 0)}, nil
			}
			item := map[string]any{
				"repository": "factory/applications/web", "tag": fmt.Sprint("v", asked), "bytesDone": 512., "bytesTotal": 1024., "bytesPerSecond": 100., "etaSeconds": 6.,
			}
			return moment{status("Syncing", float64(asked), 90), []any{item}}, nil
		}
		var out bytes.Buffer
		last, err := watchSync(t.Context(), &out, status("Syncing", 0, 90), ask)
		if err != nil || last["state"] != "Online" {
			t.Errorf("%v, %v", last, err)
		}
		for _, want := range []string{"1.0 MiB of 4.0 MiB, 2.0 KiB/s, 1m30s left", "3.0 MiB of 4.0 MiB", "=>", " …pplications/web:v1 [", " …pplications/web:v3 [", "512 B of 1.0 KiB, 100 B/s, 6s left"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%q was not drawn: %q", want, &out)
			}
		}
		if asked != 4 {
			t.Errorf("asked %d times", asked)
		}
	})
}

func TestASyncThatDoesNotRunIsNotDrawn(t *testing.T) {
	var out bytes.Buffer
	if _, err := watchSync(t.Context(), &out, map[string]any{"state": "Online"}, nil); err != nil || out.Len() > 0 {
		t.Errorf("%q, %v", &out, err)
	}
}
