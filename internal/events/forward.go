package events

import (
	"context"
	"regexp"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/terminal"
	"ferry/internal/wire"
)

// forwardPage is how many events, and how many audit entries, go with one poll.
const forwardPage = 100

// The settings with the numbers of the last event and the last audit entry that the parent has.
const (
	forwardedSetting      = "events-forwarded"
	auditForwardedSetting = "audit-forwarded"
)

// A Batch is the events and audit entries that go with a poll, oldest first.
type Batch struct {
	Events []wire.Event
	Audit  []wire.AuditEntry
	More   bool // others wait

	eventIDs, auditIDs []int64
}

// Empty reports whether the batch has nothing.
func (b Batch) Empty() bool { return len(b.Events)+len(b.Audit) == 0 }

// Outgoing returns what the parent must get next: events and, if they are shipped, audit entries.
func (s *Service) Outgoing(ctx context.Context) (b Batch, err error) {
	own := s.options.AuditShipped != nil && s.options.AuditShipped()
	err = s.db.View(ctx, func(tx *metadb.Tx) error {
		b = Batch{}
		after, err := place(tx, forwardedSetting)
		if err != nil {
			return err
		}
		events, err := tx.EventsAfter(after, true, forwardPage+1)
		if err != nil {
			return err
		}
		if after, err = place(tx, auditForwardedSetting); err != nil {
			return err
		}
		audit, err := tx.AuditAfter(after, own, forwardPage+1)
		if err != nil {
			return err
		}
		b.More = len(events) > forwardPage || len(audit) > forwardPage
		for _, e := range events[:min(len(events), forwardPage)] {
			b.Events, b.eventIDs = append(b.Events, toWire(e)), append(b.eventIDs, e.ID)
		}
		for _, e := range audit[:min(len(audit), forwardPage)] {
			b.Audit, b.auditIDs = append(b.Audit, s.auditToWire(e)), append(b.auditIDs, e.ID)
		}
		return nil
	})
	return b, err
}

// place returns the number in a setting; 0 if there is none.
func place(tx *metadb.Tx, setting string) (int64, error) {
	text, err := tx.Setting(setting)
	n, _ := strconv.ParseInt(text, 10, 64)
	return n, err
}

// Forwarded records that the parent has stored the first events and audit entries of a batch, as
// many as it says.
func (s *Service) Forwarded(ctx context.Context, b Batch, stored wire.Stored) error {
	n, m := min(max(stored.Events, 0), len(b.eventIDs)), min(max(stored.Audit, 0), len(b.auditIDs))
	if n+m == 0 {
		return nil
	}
	return s.db.UpdateWithReserve(ctx, func(tx *metadb.Tx) error {
		if n > 0 {
			last := b.eventIDs[n-1]
			if err := tx.MarkForwarded(last); err != nil {
				return err
			}
			if err := tx.SetSetting(forwardedSetting, strconv.FormatInt(last, 10)); err != nil {
				return err
			}
		}
		if m == 0 {
			return nil
		}
		return tx.SetSetting(auditForwardedSetting, strconv.FormatInt(b.auditIDs[m-1], 10))
	})
}

func toWire(e metadb.Event) wire.Event {
	return wire.Event{
		ID: e.Origin, Registry: e.Registry, At: e.At, Type: e.Type, Repository: e.Repository, Tag: e.Tag,
		Digest: digest.Digest(e.Digest), MediaType: e.MediaType, Size: e.Size, Reason: e.Reason, Detail: e.Detail,
	}
}

func (s *Service) auditToWire(e metadb.AuditEntry) wire.AuditEntry {
	registry := e.Registry
	if registry == "" {
		registry = s.options.Registry
	}
	return wire.AuditEntry{
		ID: e.OriginOf(), Registry: registry, At: e.At, Actor: e.Actor, Sender: e.Sender, Action: e.Action,
		Object: e.Object, Detail: e.Detail,
	}
}

// Limits on the texts of events and audit entries of other instances, in bytes.
const (
	maxID     = 64
	maxCode   = 64
	maxName   = 256
	maxObject = 512
	maxText   = 1000
)

var (
	idForm   = regexp.MustCompile(`^[0-9A-Za-z._-]{1,64}$`)
	typeForm = regexp.MustCompile(`^[a-z][a-z_]{0,31}$`)
)

// maxAhead is how far the clock of a descendant may be ahead. Later times count as now.
const maxAhead = 10 * time.Minute

// FromWire returns an event of a descendant, whose name was checked, as a row; ok is false if it is
// not valid. A type that this build does not know is kept.
func FromWire(e wire.Event, registry string, now time.Time) (row metadb.Event, ok bool) {
	if !idForm.MatchString(e.ID) || !typeForm.MatchString(e.Type) || e.Size < 0 {
		return row, false
	}
	if e.Repository == "" && e.Type != Dropped || e.Repository != "" && oci.CheckRepository(e.Repository) != nil {
		return row, false
	}
	if e.Tag != "" && oci.CheckTag(e.Tag) != nil {
		return row, false
	}
	if _, err := oci.ParseDigest(string(e.Digest)); e.Digest != "" && err != nil {
		return row, false
	}
	return metadb.Event{
		Origin: e.ID, Registry: registry, At: notAhead(e.At, now), Type: e.Type, Repository: e.Repository, Tag: e.Tag,
		Digest: string(e.Digest), MediaType: cut(e.MediaType, maxName), Size: e.Size, Reason: cut(e.Reason, maxCode),
		Detail: cut(e.Detail, maxText),
	}, true
}

// AuditFromWire returns an audit entry of a descendant, whose name was checked, as a row; ok is false
// if it is not valid.
func AuditFromWire(e wire.AuditEntry, registry string, now time.Time) (row metadb.AuditEntry, ok bool) {
	if !idForm.MatchString(e.ID) {
		return row, false
	}
	return metadb.AuditEntry{
		Origin: e.ID, Registry: registry, At: notAhead(e.At, now), Actor: cut(e.Actor, maxName),
		Sender: cut(e.Sender, maxName), Action: cut(e.Action, maxCode), Object: cut(e.Object, maxObject),
		Detail: cut(e.Detail, maxText),
	}, true
}

func notAhead(at, now time.Time) time.Time {
	if at.Before(time.Unix(0, 0)) || at.After(now.Add(maxAhead)) {
		return now
	}
	return at
}

func cut(text string, limit int) string { return terminal.Clip(terminal.Printable(text), limit) }

// Receive records an event of a descendant in tx, unless it is recorded already. An instance with a
// parent passes it on.
func (s *Service) Receive(tx *metadb.Tx, e metadb.Event) error {
	e.Forward = s.options.Registry != ""
	_, err := s.add(tx, e)
	return err
}
