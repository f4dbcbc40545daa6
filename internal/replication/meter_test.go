package replication

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"pgregory.net/rapid"
)

func TestLayerThatSeveralConnectionsPutOffIsTakenBackOnce(t *testing.T) {
	e := &Engine{meter: &meter{}}
	r := newRun(e, nil)
	q := newQueue(e, r.link)
	l := &layer{digest: digest.FromString("l"), size: 100}
	l.claims = []*claim{{layer: l}, {layer: l}}
	e.meter.add(l.expect)
	for range l.claims { // each of the two found that enough is enough
		if err := r.putOff(t.Context(), q, l, errors.New("nothing came")); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(Progress{}, e.meter.progress()); diff != "" {
		t.Error(diff)
	}
}

func TestBytesDoneAreNeverNegativeNorMoreThanThereAre(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &meter{}
		layers := []*layer{{size: 0}, {size: 10}, {size: 1000}}
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			l := rapid.SampledFrom(layers).Draw(t, "layer")
			n := rapid.Int64Range(-2000, 2000).Draw(t, "bytes")
			switch rapid.IntRange(0, 2).Draw(t, "what") {
			case 0:
				m.add(func(p *Progress) {
					if l.counted == 0 { // each layer is planned once
						l.expect(p)
					}
				})
			case 1:
				m.add(func(p *Progress) { l.got(p, n) })
			case 2:
				m.add(l.forget)
			}
			if p := m.progress(); p.BytesDone < 0 || p.BytesDone > p.BytesTotal {
				t.Fatalf("%d of %d bytes done", p.BytesDone, p.BytesTotal)
			}
		}
	})
}
