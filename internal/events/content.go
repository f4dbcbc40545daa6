package events

import (
	"context"
	"errors"
	"hash/maphash"
	"slices"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/replication"
	"ferry/internal/storage"
)

// ContentChanged records that a tag or a manifest was pushed or deleted. It is for
// [storage.Options].
func (s *Service) ContentChanged(tx *metadb.Tx, c storage.ContentChange) error {
	e := metadb.Event{
		Type: Push, Repository: c.Repository, Tag: c.Tag, Digest: string(c.Digest), MediaType: c.MediaType,
		Size: c.Size,
	}
	if c.Deleted {
		e.Type = Delete
	}
	if err := s.describe(tx, &e); err != nil {
		return err
	}
	return s.Append(tx, e)
}

// describe adds the media type and the size of its manifest to an event that somebody gets.
func (s *Service) describe(tx *metadb.Tx, e *metadb.Event) error {
	if _, wanted := s.wants(*e); !wanted || e.MediaType != "" || e.Digest == "" {
		return nil
	}
	m, err := tx.Describe(e.Repository, e.Digest)
	if errors.Is(err, metadb.ErrNotFound) {
		return nil
	}
	e.MediaType, e.Size = m.MediaType, m.Size
	return err
}

// ItemSynced records that a sync has completed an image here, or could not. It is for
// [replication.Options].
func (s *Service) ItemSynced(tx *metadb.Tx, o replication.Outcome) error {
	e := metadb.Event{Type: Complete, Repository: o.Repository, Tag: o.Tag, Digest: string(o.Digest)}
	if o.Err != nil {
		e.Type, e.Reason, e.Detail = Failed, o.Reason(), clip(o.Err.Error())
	} else if err := s.describe(tx, &e); err != nil {
		return err
	}
	return s.Append(tx, e)
}

// pullSlots is how many of the last pulled manifests are in memory.
const pullSlots = 1 << 13

// pullCheck is how often the service looks whether somebody began to want events of first pulls.
const pullCheck = 10 * time.Second

// pullQueue is how many pulls may wait to be looked up. More are looked up when they happen again.
const pullQueue = 256

// A pullFilter remembers manifests that were pulled before, so that the next pull of one costs a hash
// and a load. Manifests that it has forgotten are looked up again.
type pullFilter struct {
	seed  maphash.Seed
	slots [pullSlots]atomic.Uint64
	queue chan pull
}

type pull struct {
	repository string
	digest     digest.Digest
	at         time.Time
	sum        uint64
}

func (f *pullFilter) start() {
	f.seed, f.queue = maphash.MakeSeed(), make(chan pull, pullQueue)
}

// clear forgets all manifests.
func (f *pullFilter) clear() {
	for i := range f.slots {
		f.slots[i].Store(0)
	}
}

// sum returns the hash of a manifest; never 0.
func (f *pullFilter) sum(repository string, d digest.Digest) uint64 {
	return maphash.String(f.seed, repository)*31 + maphash.String(f.seed, string(d)) | 1
}

func (f *pullFilter) slot(sum uint64) *atomic.Uint64 { return &f.slots[sum>>8%pullSlots] }

// Pulled records that a client pulled a manifest. It never waits.
func (s *Service) Pulled(repository string, d digest.Digest) {
	sum := s.pulls.sum(repository, d)
	if s.pulls.slot(sum).Load() == sum {
		return
	}
	select {
	case s.pulls.queue <- pull{repository, d, s.now(), sum}:
		s.pulls.slot(sum).Store(sum)
	default: // the next pull of it is recorded
	}
}

// RecordPulls records the first pull of each manifest, until ctx ends.
func (s *Service) RecordPulls(ctx context.Context) error {
	check := time.NewTicker(pullCheck)
	defer check.Stop()
	wanted := s.wantsPulls()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-check.C:
			had := wanted
			if wanted = s.wantsPulls(); wanted && !had {
				s.pulls.clear()
			}
		case p := <-s.pulls.queue:
			if err := s.recordPull(ctx, p); err != nil && ctx.Err() == nil {
				s.pulls.slot(p.sum).Store(0) // the next pull of it is recorded
				s.log.Warn("first pull is not recorded", "repo", p.repository, "digest", p.digest, "err", err)
			}
		}
	}
}

// recordPull records the first pull of a manifest, with an event unless an index holds it: the index
// has one.
func (s *Service) recordPull(ctx context.Context, p pull) error {
	if !s.wantsPulls() {
		return nil
	}
	first, err := metadb.Read(ctx, s.db, func(tx *metadb.Tx) (bool, error) {
		return tx.NeverPulled(p.repository, string(p.digest))
	})
	if err != nil || !first {
		return err
	}
	e := metadb.Event{Type: FirstPull, At: p.at, Repository: p.repository, Digest: string(p.digest)}
	return s.db.UpdateTogether(ctx, func(tx *metadb.Tx) error {
		first, err := tx.MarkPulled(p.repository, string(p.digest), p.at)
		if err != nil || !first {
			return err
		}
		index, err := tx.ParentOf(p.repository, string(p.digest))
		if err != nil || index != "" {
			return err
		}
		tags, err := tx.TagsOf(p.repository, string(p.digest))
		if err != nil {
			return err
		}
		if len(tags) > 0 {
			e.Tag = tags[0].Name
		}
		if err := s.describe(tx, &e); err != nil {
			return err
		}
		return s.Append(tx, e)
	})
}

// wantsPulls reports whether anybody gets events of first pulls.
func (s *Service) wantsPulls() bool {
	if slices.ContainsFunc(*s.own.Load(), func(one Selection) bool {
		return len(one.Types) == 0 || slices.Contains(one.Types, FirstPull)
	}) {
		return true
	}
	return s.options.Registry != "" && slices.ContainsFunc(s.patterns.of(s.options.Notifications()),
		func(p Pattern) bool { return p.action == anything || p.action == FirstPull })
}
