package config

import (
	"errors"
	"time"
)

// The values of [Config.Spread] besides a duration.
const (
	SpreadAuto = "auto" // depends on the number of connected registries
	SpreadOff  = "off"
)

// Limits on a spread.
const (
	maxSpread = time.Hour
	// spreadFrom is the number of connected registries from which auto is above 0. It is
	// spreadEach for each of them, up to autoSpread.
	spreadFrom = 100
	spreadEach = 20 * time.Millisecond
	autoSpread = 10 * time.Minute
)

// ParseSpread returns a function from the number of connected registries to the time over
// which they spread their fetches after a change.
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
