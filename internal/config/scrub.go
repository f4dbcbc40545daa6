package config

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// Words that [ParseScrub] and [ParseHours] accept.
const (
	scrubOff = "off"
	scrubAny = "any"
)

// minScrubRate is the least allowed rate of a scrub, in bytes a second.
const minScrubRate = 64 << 10

// ParseScrub parses the period of scrubs: off, days such as 30d, or a duration such as 36h.
// It returns 0 for off.
func ParseScrub(text string) (time.Duration, error) {
	if text == scrubOff {
		return 0, nil
	}
	wrong := errors.New("want off, or a time of at least 1h, such as 30d or 36h")
	var every time.Duration
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 15)
		if err != nil {
			return 0, wrong
		}
		every = time.Duration(n) * 24 * time.Hour
	} else if d, err := time.ParseDuration(text); err == nil {
		every = d
	}
	if every < time.Hour {
		return 0, wrong
	}
	return every, nil
}

// ParseRetention parses how long something is kept, in the form of [ParseScrub]. 0 is for ever.
func ParseRetention(text string) (time.Duration, error) { return ParseScrub(text) }

// Hours are a part of each day, in UTC. The zero value is the whole day.
type Hours struct{ from, to int } // in minutes; if to is less than from, it is on the next day

// ParseHours parses any, or HH:MM-HH:MM.
func ParseHours(text string) (Hours, error) {
	if text == scrubAny {
		return Hours{}, nil
	}
	from, to, _ := strings.Cut(text, "-")
	a, errFrom := time.Parse("15:04", from)
	b, errTo := time.Parse("15:04", to)
	h := Hours{a.Hour()*60 + a.Minute(), b.Hour()*60 + b.Minute()}
	if errFrom != nil || errTo != nil || h.from == h.to {
		return Hours{}, errors.New("want any, or HH:MM-HH:MM in UTC, such as 01:00-05:00")
	}
	return h, nil
}

// Has reports whether t is in the hours.
func (h Hours) Has(t time.Time) bool {
	t = t.UTC()
	minute := t.Hour()*60 + t.Minute()
	switch {
	case h == Hours{}:
		return true
	case h.from < h.to:
		return h.from <= minute && minute < h.to
	}
	return h.from <= minute || minute < h.to
}
