package cli

import (
	"testing"

	"ferry/internal/api"
)

func TestToGoSaysWhichBoundItIs(t *testing.T) {
	for want, s := range map[string]api.Summary{
		"":                  {},
		"unknown":           {AtLeast: true},
		"1 item":            {ItemsToGo: 1},
		"2 items, 3.0 KiB+": {ItemsToGo: 2, BytesToGo: 3 << 10, AtLeast: true},
		"≤2 items, 3.0 KiB": {ItemsToGo: 2, BytesToGo: 3 << 10, AtMost: true},
		"~2 items, 3.0 KiB": {ItemsToGo: 2, BytesToGo: 3 << 10, AtLeast: true, AtMost: true},
	} {
		if got := toGoText(s); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
