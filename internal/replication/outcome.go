package replication

import (
	"errors"
	"net/http"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/retry"
)

// An Outcome is that of an item that a Sync has completed, or could not. A failure is reported once,
// and again if its reason changes.
type Outcome struct {
	Repository string
	Tag        string        // "" is an untagged manifest
	Digest     digest.Digest // at the source
	Err        error         // nil is success
}

// The reasons of failures, for programs.
const (
	ReasonDisk        = "DiskError"   // this registry's disk is full
	ReasonUnsupported = "Unsupported" // this registry cannot serve the format
	ReasonMissing     = "Missing"     // the source lacks content of the image
	ReasonDenied      = "Denied"      // the source refuses the content, or a lock here does
	ReasonOther       = "SyncError"   // any other reason; the text says which
)

// Reason returns the reason of the failure.
func (o Outcome) Reason() string { return reasonOf(o.Err) }

func reasonOf(err error) string {
	missing, unavailable := errors.AsType[unavailableError](err)
	switch {
	case err == nil:
		return ""
	case errors.Is(err, oci.ErrNoSpace):
		return ReasonDisk
	case unavailable && missing.unsupported:
		return ReasonUnsupported
	case unavailable, retry.Status(err) == http.StatusNotFound:
		return ReasonMissing
	case errors.Is(err, oci.ErrDenied), retry.Unauthorized(err), retry.Status(err) == http.StatusForbidden:
		return ReasonDenied
	}
	return ReasonOther
}

// observeOutcome tells the observer how an item changed, unless it failed before with the same error,
// or was removed.
func (e *Engine) observeOutcome(tx *metadb.Tx, before, now metadb.SyncItem, failure error) error {
	known := before.State == Failed && now.State == Failed && before.Error == now.Error
	if e.observe == nil || now.Digest == "" || known {
		return nil
	}
	return e.observe(tx, Outcome{now.Repository, now.Tag, digest.Digest(now.Digest), failure})
}
