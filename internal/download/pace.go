package download

import "time"

// paceSpan is the time over which a rate is taken: long enough to look
// steady on a link that comes in bursts, short enough to show that it stopped.
const paceSpan = 10 * time.Second

// A pace is how much came over the link, lately. The zero value is ready.
type pace struct {
	marks []mark // oldest first; the first may be older than paceSpan
}

type mark struct {
	at    time.Time
	bytes int64
}

// note adds how much came in all, at now.
func (p *pace) note(now time.Time, bytes int64) {
	if n := len(p.marks); n > 0 && now.Sub(p.marks[n-1].at) < paceSpan/40 {
		return
	}
	p.marks = append(p.marks, mark{now, bytes})
	for len(p.marks) > 1 && now.Sub(p.marks[1].at) >= paceSpan {
		p.marks = p.marks[1:]
	}
}

// rate is how many bytes came a second, over the last [paceSpan] before now.
func (p *pace) rate(now time.Time) int64 {
	if len(p.marks) == 0 {
		return 0
	}
	first, last := p.marks[0], p.marks[len(p.marks)-1]
	for _, m := range p.marks {
		if now.Sub(m.at) >= paceSpan {
			first = m
		}
	}
	took := min(now.Sub(first.at), paceSpan) // the first may be from before an outage
	if took <= 0 {
		return 0
	}
	return int64(float64(last.bytes-first.bytes) / took.Seconds())
}
