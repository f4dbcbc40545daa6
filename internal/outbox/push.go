package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"ferry/internal/storage"
	"ferry/internal/wire"
)

// push sends changes whose content the parent has, and records the answers.
func (s *Sender) push(ctx context.Context, rows []storage.OutboxItem, t *tally) error {
	for some := range slices.Chunk(rows, wire.MaxPushChanges) {
		if err := s.pushTogether(ctx, some, t); err != nil {
			return err
		}
	}
	return nil
}

func (s *Sender) pushTogether(ctx context.Context, rows []storage.OutboxItem, t *tally) error {
	var due []storage.OutboxItem
	q := wire.PushRequest{InstanceID: s.InstanceID}
	for _, row := range rows {
		row, ok, err := s.Storage.MarkAttempted(ctx, row)
		if err != nil {
			return err
		}
		if ok {
			due = append(due, row)
			q.Changes = append(q.Changes, s.changeOf(row))
		}
	}
	if len(due) == 0 {
		return nil
	}
	a, err := s.Parent.Push(ctx, q)
	if err != nil {
		return err
	}
	if len(a.Outcomes) == 0 || len(a.Outcomes) > len(due) {
		return errors.New("the parent's answer does not fit the changes")
	}
	for i, o := range a.Outcomes {
		if err := s.recordOutcome(ctx, due[i], o, q.Changes[i].KeepAs, t); err != nil {
			return err
		}
	}
	return nil // the parent did not get to the others: the next Send sends them
}

// changeOf returns the wire's form of a change.
func (s *Sender) changeOf(row storage.OutboxItem) wire.Change {
	change := wire.Change{
		Repository: row.Repository, Tag: row.Tag, Digest: digest.Digest(row.Digest), Base: digest.Digest(row.Base),
	}
	switch {
	case row.Item == "":
	case row.Tag == "":
		change.Manifest, change.Base = digest.Digest(row.Item), ""
	default:
		for _, d := range row.Attempted {
			change.Earlier = append(change.Earlier, digest.Digest(d))
		}
		if row.Digest != "" {
			change.KeepAs = ConflictTag(row.Tag, s.Name, digest.Digest(row.Digest))
		}
	}
	return change
}

// recordOutcome records the parent's answer to a change.
func (s *Sender) recordOutcome(
	ctx context.Context, row storage.OutboxItem, o wire.ChangeOutcome, keepAs string, t *tally,
) error {
	sent := storage.SentItem{OutboxItem: row, Seq: o.Seq}
	switch o.Status {
	case wire.ChangeAccepted:
	case wire.ChangeConflict:
		sent.Conflict, sent.Parent, sent.KeptAs = true, o.Digest, keepAs
	case wire.ChangeMissing:
		return vanishedError{fmt.Errorf("the parent deleted %s again before its tag was set", row.Digest)}
	default:
		sent.Refused = "the parent refuses the change: " + o.Reason
	}
	return s.record(ctx, sent, t)
}

// A vanishedError is that content was deleted at the parent, after it was sent. The next try sends it
// again.
type vanishedError struct{ error }

// maxTag is the longest name of a tag.
const maxTag = 128

// ConflictTag returns the tag under which the parent keeps the manifest that a connected registry had
// under tag, while the parent has another.
func ConflictTag(tag, registry string, d digest.Digest) string {
	end := fmt.Sprintf("-conflict-%s-%s", registry, d.Encoded()[:12])
	return tag[:min(len(tag), maxTag-len(end))] + end
}

// conflictText says what both registries have.
func conflictText(here, parent, keptAs string) string {
	switch {
	case here == "":
		return "it was removed here, and the parent has " + parent
	case parent == "":
		parent = "it was removed at the parent"
	default:
		parent = "the parent has " + parent
	}
	return parent + "; " + here + " of this registry is kept as " + keptAs
}
