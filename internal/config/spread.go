package config

import (
	"errors"
	"time"
)

// The values of [Config.Spread] beside a duration.
const (
	SpreadAuto = "auto" // by how many connected registries there are
	SpreadOff  = "off"
)

// Limits on a spread.
const (
	maxSpread = time.Hour
	// spreadFrom is from how many connected registries on there is one by itself,
	// which grows by spreadEach with each of them, up to autoSpread.
	spreadFrom = 100
	spreadEach = 20 * time.Millisecond
	autoSpread = 10 * time.Minute
)

// ParseSpread returns over how long connected registries spread what they fetch
// after a change, by how many of them there are.
func ParseSpread(text string) (func(registries int) time.Duration, error) {
	switch text {
	case SpreadOff:
		return func(int) time.Duration { return 0 }, nil
	case SpreadAuto:
		return func(registries int) time.Duration {
			if registries < spreadFrom {
				return 0
			}
			return min(time.Duration(registries)*spreadEach, autoSpread)
		}, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > maxSpread {
		return nil, errors.New("want auto, off, or a duration up to 1h, such as 90s")
	}
	return func(int) time.Duration { return d }, nil
}
