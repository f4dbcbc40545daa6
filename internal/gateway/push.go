package gateway

import (
	"cmp"
	"context"
	"errors"
	"net/http"

	"github.com/opencontainers/go-digest"

	"ferry/internal/auth"
	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/wire"
)

// push applies the changes that clients made at a child in mode ReadWrite.
func (s *server) push(ctx context.Context, c caller, q wire.PushRequest) (*wire.PushResponse, error) {
	if err := checkPush(q); err != nil {
		return nil, err
	}
	if err := s.ControlPlane.Report(ctx, c.name, q.InstanceID, nil); err != nil { // it must hold its activation
		return nil, err
	}
	d, err := s.ControlPlane.Desired(ctx, c.name)
	if err != nil {
		return nil, err
	}
	a := &wire.PushResponse{Capability: commonCapability(q.Capability)}
	for _, change := range q.Changes {
		why := s.whyNotChanged(c, d.Self, change)
		o := wire.ChangeOutcome{Status: wire.ChangeRefused, Reason: why}
		if why == "" {
			err = s.admission.enter(ctx, func() (err error) {
				o, err = s.applyChange(ctx, c, change)
				return err
			})
		}
		if err != nil && len(a.Outcomes) > 0 {
			break // the child sends the rest again
		}
		if err != nil {
			return nil, err
		}
		a.Outcomes = append(a.Outcomes, o)
	}
	return a, nil
}

// checkPush refuses a request that exceeds a limit, or has a malformed change.
func checkPush(q wire.PushRequest) error {
	if len(q.InstanceID) > maxPollText || len(q.Changes) > wire.MaxPushChanges {
		return invalid("a request has at most %d changes", wire.MaxPushChanges)
	}
	for _, change := range q.Changes {
		if err := checkChange(change); err != nil {
			return invalid("a change is malformed: %v", err)
		}
	}
	return nil
}

func checkChange(change wire.Change) error {
	err := oci.CheckRepository(change.Repository)
	if change.Tag != "" {
		err = errors.Join(err, oci.CheckTag(change.Tag))
	}
	if change.KeepAs != "" {
		err = errors.Join(err, oci.CheckTag(change.KeepAs))
	}
	digests := append([]digest.Digest{change.Manifest, change.Digest, change.Base}, change.Earlier...)
	for _, d := range digests[:min(len(digests), 3+wire.MaxPushEarlier)] {
		if d != "" {
			_, e := oci.ParseDigest(string(d))
			err = errors.Join(err, e)
		}
	}
	switch {
	case err != nil:
		return err
	case len(change.Earlier) > wire.MaxPushEarlier:
		return errors.New("it has too many earlier digests")
	case change.Tag != "" && change.KeepAs == change.Tag:
		return errors.New("it keeps the manifest under the same tag")
	case change.Tag != "" && change.Manifest != "",
		change.Manifest != "" && change.Digest != "" && change.Digest != change.Manifest,
		change.Tag == "" && change.Manifest == "" && change.Digest != "":
		return errors.New("it is of no item")
	}
	return nil
}

// whyNotChanged returns why the caller may not make a change; "" is that it may.
func (s *server) whyNotChanged(c caller, child wire.ConnectedRegistry, change wire.Change) string {
	if child.Mode != wire.ModeReadWrite {
		return "the connected registry's mode is " + child.Mode
	}
	action := auth.ContentWrite
	if change.Digest == "" {
		action = auth.ContentDelete
	}
	if !c.principal.Permissions.AllowsRepository(change.Repository, action) {
		return "the sync token has no " + string(action) + " for this repository"
	}
	if err := s.Writable(change.Repository, action); err != nil {
		return "the parent may not change this repository either"
	}
	return ""
}

// applyChange applies a change that the caller may make.
func (s *server) applyChange(ctx context.Context, c caller, change wire.Change) (wire.ChangeOutcome, error) {
	outcome, err := s.Storage.ApplyChange(ctx, storage.ItemChange{
		Repository: change.Repository, Tag: change.Tag, Manifest: change.Manifest, Digest: change.Digest,
		Base: change.Base, Earlier: change.Earlier, KeepAs: change.KeepAs,
	}, s.noteOf(c, change))
	o := wire.ChangeOutcome{Status: wire.ChangeAccepted, Seq: outcome.Seq}
	refusal := oci.AsError(err)
	switch {
	case errors.Is(err, oci.ErrManifestUnknown):
		o = wire.ChangeOutcome{Status: wire.ChangeMissing}
	case errors.Is(err, oci.ErrNoSpace):
		return o, problem(http.StatusInsufficientStorage, "NO_SPACE", "no space is left on the parent's disk")
	case refusal != nil && refusal.Status < http.StatusInternalServerError:
		o = wire.ChangeOutcome{Status: wire.ChangeRefused, Reason: clip(refusal.Message)}
	case err != nil:
		return o, err
	case outcome.Conflict:
		o.Status, o.Digest = wire.ChangeConflict, outcome.Current
		s.Log.Warn("a tag was changed here and at a connected registry", "registry", c.name, "repo", change.Repository,
			"tag", change.Tag, "digest", outcome.Current, "theirs", change.Digest, "keptAs", change.KeepAs)
	}
	return o, nil
}

// noteOf returns a function that records a removal, or a conflict, in the audit log.
func (s *server) noteOf(c caller, change wire.Change) func(storage.ItemOutcome) storage.Note {
	return func(o storage.ItemOutcome) storage.Note {
		object, action := "repositories/"+change.Repository, "delete"
		switch {
		case change.Tag != "":
			object += "/tags/" + change.Tag
		case change.Manifest != "":
			object += "/manifests/" + string(change.Manifest)
		}
		if o.Conflict {
			action = "conflict"
		} else if change.Digest != "" {
			return nil // like a push of any client
		}
		detail := "at the connected registry " + c.name
		if o.Conflict {
			detail += ": " + cmp.Or(string(change.Digest), "removed") + "; here: " +
				cmp.Or(string(o.Current), "removed")
		}
		return s.AuditNote(c.principal.Name, sender(c.request), action, object, detail)
	}
}
