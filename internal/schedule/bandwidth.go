package schedule

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Limits on bandwidths.
const (
	maxSpans     = 24
	minBandwidth = 1 << 10 // bytes per second; slower connections would look stalled
)

// A Bandwidth limits the bytes per second of a link, by the time of day in UTC. The zero value
// is no limit.
type Bandwidth struct{ spans []span }

// A span is a part of each day and its limit.
type span struct {
	from, to int   // minutes of the day; to is exclusive, and below from if the span passes midnight
	rate     int64 // bytes per second; 0 is unlimited
}

// ParseBandwidth reads a list of RATE and HH:MM-HH:MM=RATE. At any time, the first entry that
// covers it applies; without one, there is no limit. A RATE is a number of bytes per second
// followed by KiB, MiB or GiB; a number of bits followed by kbit, Mbit or Gbit, which are
// powers of ten; or "unlimited". The lowest rate is 1 KiB.
func ParseBandwidth(texts []string) (Bandwidth, error) {
	var b Bandwidth
	if len(texts) > maxSpans {
		return b, fmt.Errorf("%d bandwidths are too many: at most %d are allowed", len(texts), maxSpans)
	}
	for _, text := range texts {
		s, err := parseSpan(text)
		if err != nil {
			return Bandwidth{}, fmt.Errorf("bandwidth %.50q: %w", text, err)
		}
		b.spans = append(b.spans, s)
	}
	return b, nil
}

func parseSpan(text string) (s span, err error) {
	when, rate, timed := strings.Cut(text, "=")
	if !timed {
		s.to, rate = 24*60, text
	} else {
		from, to, ok := strings.Cut(when, "-")
		if !ok {
			return s, errors.New("want HH:MM-HH:MM=RATE")
		}
		if s.from, err = parseMinute(from); err != nil {
			return s, err
		}
		if s.to, err = parseMinute(to); err != nil {
			return s, err
		}
		if s.from == s.to {
			return s, errors.New("it begins and ends at the same time")
		}
	}
	s.rate, err = parseRate(strings.TrimSuffix(strings.TrimSpace(rate), "/s"))
	return s, err
}

// parseMinute reads HH:MM, up to 24:00.
func parseMinute(text string) (int, error) {
	text = strings.TrimSpace(text)
	if text == "24:00" {
		return 24 * 60, nil
	}
	t, err := time.Parse("15:04", text)
	if err != nil || len(text) != len("15:04") {
		return 0, fmt.Errorf("%.20q is not a time of day: want HH:MM", text)
	}
	return t.Hour()*60 + t.Minute(), nil
}

// parseRate reads a RATE without its /s.
func parseRate(text string) (int64, error) {
	if strings.EqualFold(text, "unlimited") {
		return 0, nil
	}
	const want = "want a rate such as 512KiB, 2MiB, 4Mbit or unlimited"
	number := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
	factor, ok := map[string]float64{
		"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "kbit": 1e3 / 8, "mbit": 1e6 / 8, "gbit": 1e9 / 8,
	}[strings.ToLower(strings.TrimSpace(text[len(number):]))]
	if !ok || strings.Trim(number, "0123456789.") != "" {
		return 0, errors.New(want)
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || n*factor > 1<<50 {
		return 0, errors.New(want)
	}
	if n*factor < minBandwidth {
		return 0, errors.New("it is less than 1 KiB per second")
	}
	return int64(n * factor), nil
}

// Until returns when the limit at t may change next: the first beginning or end of an entry after t.
func (b Bandwidth) Until(t time.Time) time.Time {
	t = t.UTC()
	day := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
	next := day.AddDate(0, 0, 1)
	for _, s := range b.spans {
		for _, minute := range []int{s.from, s.to} {
			if at := day.Add(time.Duration(minute) * time.Minute); at.After(t) && at.Before(next) {
				next = at
			}
		}
	}
	return next
}

// At returns the limit at t, in bytes per second; 0 is unlimited.
func (b Bandwidth) At(t time.Time) int64 {
	t = t.UTC()
	minute := t.Hour()*60 + t.Minute()
	for _, s := range b.spans {
		in := s.from <= minute && minute < s.to
		if s.to < s.from {
			in = minute >= s.from || minute < s.to
		}
		if in {
			return s.rate
		}
	}
	return 0
}
