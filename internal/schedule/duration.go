package schedule

import (
	"fmt"
	"time"

	"github.com/sosodev/duration"
)

// The limits and the default of Azure's connected registry.
const (
	MinWindow = time.Hour
	MaxWindow = 7 * 24 * time.Hour

	MinMessageTTL     = 24 * time.Hour
	MaxMessageTTL     = 90 * 24 * time.Hour
	DefaultMessageTTL = "P2D"
)

// The limits and the default of how often a connected registry replaces its password.
const (
	MinRotation     = 24 * time.Hour
	MaxRotation     = 366 * 24 * time.Hour
	DefaultRotation = "P30D"
	RotationOff     = "off"
)

// ParseRotation reads how often a connected registry replaces its password, P1D to P366D, or off, which
// is 0. "" is the default.
func ParseRotation(text string) (time.Duration, error) {
	switch text {
	case RotationOff:
		return 0, nil
	case "":
		text = DefaultRotation
	}
	return parseDuration("rotation of passwords", text, MinRotation, MaxRotation,
		"P1D to P366D, or off; example: P30D, which is thirty days")
}

// ParseWindow reads the length of a sync window, PT1H to P7D.
func ParseWindow(text string) (time.Duration, error) {
	return parseDuration("sync window", text, MinWindow, MaxWindow, "PT1H to P7D; example: PT3H, which is three hours")
}

// ParseMessageTTL reads for how long removals are remembered, P1D to P90D.
func ParseMessageTTL(text string) (time.Duration, error) {
	return parseDuration("message TTL", text, MinMessageTTL, MaxMessageTTL,
		"P1D to P90D; example: P2D, which is two days")
}

// ParseJoin reads for how long a join token is valid, PT1M to P30D.
func ParseJoin(text string) (time.Duration, error) {
	return parseDuration("validity of a join token", text, time.Minute, 30*24*time.Hour,
		"PT1M to P30D; example: PT24H, which is a day")
}

func parseDuration(name, text string, least, most time.Duration, want string) (time.Duration, error) {
	if len(text) > 32 {
		return 0, fmt.Errorf("%s %.32q is not an ISO 8601 duration (want %s)", name, text, want)
	}
	parsed, err := duration.Parse(text)
	if err != nil {
		return 0, fmt.Errorf("%s %q is not an ISO 8601 duration (want %s)", name, text, want)
	}
	d := parsed.ToTimeDuration()
	if d < least || d > most {
		return 0, fmt.Errorf("%s %q is out of range (want %s)", name, text, want)
	}
	return d, nil
}
