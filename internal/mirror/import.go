package mirror

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/replication"
)

// Limits on imports.
const (
	maxImports   = 100                 // waiting, running and remembered ones together
	importAge    = 30 * 24 * time.Hour // how long an import is remembered after its end
	maxTargets   = 50                  // of one import
	importTries  = 5                   // to resolve the image at a source that cannot be reached
	importSource = "import/"
)

// Errors of [Service.Import] and [Service.CancelImport].
var (
	ErrBusy      = errors.New("too many imports are waiting")
	ErrExists    = errors.New("the tag exists already")
	ErrOutside   = errors.New("the repository is outside of the limits of the operator")
	ErrDiffers   = errors.New("it is already running, with another user, password, certificate authority or force")
	ErrEnded     = errors.New("the import has ended")
	ErrNoImport  = errors.New("there is no such import")
	errCancelled = errors.New("an operator cancelled it")
)

// A RequestError says why a request is invalid.
type RequestError struct{ error }

// Unwrap returns the cause.
func (e RequestError) Unwrap() error { return e.error }

// An ImportRequest asks for a copy of one image of another registry.
type ImportRequest struct {
	Source             string   // HOST/REPOSITORY[:TAG][@DIGEST]; without both, the tag is latest
	Images             []string // destinations, REPOSITORY[:TAG]; none is the source's name, unless Repository is set
	Repository         string   // destination without a tag; "" is none
	Force              bool     // move existing tags
	Username, Password string   // "" is the login in Docker's configuration
	CA                 string   // PEM; see [Spec]
	Actor, Sender      string   // who requests it, and from where, for the audit log
	// Covers reports whether the caller may write to a repository; nil is to every one.
	Covers func(repository string) bool
}

// access returns the access to the source.
func (q ImportRequest) access() access { return access{q.Username, q.Password, q.CA} }

// destinations returns the destinations of the import.
func (q ImportRequest) destinations(from Image) ([]destination, error) {
	images := q.Images
	if len(images) == 0 && q.Repository == "" {
		if from.Tag == "" {
			return nil, errors.New("the source is a digest, without a tag: " +
				"want --image REPOSITORY:TAG, or --repository NAME for a copy without a tag")
		}
		images = []string{from.Repository}
	}
	if len(images) > maxTargets {
		return nil, fmt.Errorf("%d images are too many: the maximum is %d", len(images), maxTargets)
	}
	var all []destination
	for _, text := range images {
		name, tag, ok := strings.Cut(text, ":")
		if !ok {
			tag = cmp.Or(from.Tag, "latest")
		}
		if err := errors.Join(oci.CheckRepository(name), oci.CheckTag(tag)); err != nil {
			return nil, fmt.Errorf("image %.200q: %w", text, err)
		}
		all = append(all, destination{Repository: name, Tag: tag})
	}
	if q.Repository != "" {
		if err := oci.CheckRepository(q.Repository); err != nil {
			return nil, fmt.Errorf("repository %.200q: %w", q.Repository, err)
		}
		all = append(all, destination{Repository: q.Repository})
	}
	return all, nil
}

// A destination is the repository and tag of an imported image.
type destination struct {
	Repository string
	Tag        string // "" is none
}

func (d destination) String() string {
	if d.Tag == "" {
		return d.Repository
	}
	return d.Repository + ":" + d.Tag
}

// An Import is the state of an import.
type Import struct {
	ID        string
	Source    string
	Targets   []string
	State     ImportState
	StartedAt time.Time
	EndedAt   time.Time // zero until it ends
	ImportStatus
}

// An ImportStatus is the progress of an import and, in the end, its result.
type ImportStatus struct {
	Digest   digest.Digest        `json:"digest,omitempty"`  // "" until the source has resolved the tag
	Problem  string               `json:"problem,omitempty"` // why it failed, or makes no progress at the moment
	Hint     string               `json:"hint,omitempty"`    // how to solve the problem; may be ""
	Progress replication.Progress `json:"progress"`
	Warnings []Warning            `json:"warnings"`

	BytesPerSecond int64 `json:"bytesPerSecond,omitempty"` // over the last seconds; 0 once it has ended
}

// An ImportState is a phase of an [Import].
type ImportState string

// The states of an import.
const (
	ImportPending   ImportState = "Pending"
	ImportRunning   ImportState = "Running"
	ImportSucceeded ImportState = "Succeeded"
	ImportFailed    ImportState = "Failed"
	ImportCancelled ImportState = "Cancelled"
)

// Import records an import and returns immediately. [Service.Run] runs it, in this process or another one with
// the same database; if that ends, another Run continues from the same byte. Until the import ends, the same request
// returns the same import. After it failed or was cancelled, the same request resumes from the same byte. If a tag is
// created here in the meantime, the import fails unless it is forced.
//
// The error is a [RequestError]; or it wraps [ErrOutside] if the caller may not write to a destination,
// [ErrExists] if a tag exists and must not be moved, or [ErrDiffers] if the same import runs with other
// settings; or it is [ErrBusy], or an error of the database.
func (s *Service) Import(ctx context.Context, q ImportRequest) (i Import, err error) {
	from, err := parseImage(q.Source)
	if err != nil {
		return i, RequestError{err}
	}
	to, err := q.destinations(from)
	if err != nil {
		return i, RequestError{err}
	}
	if q.Covers != nil {
		for _, d := range to {
			if !q.Covers(d.Repository) {
				return i, fmt.Errorf("import to %s: %w", d, ErrOutside)
			}
		}
	}
	src, err := s.source(from.Location, q.access())
	if err != nil {
		return i, RequestError{err}
	}
	src.close()
	if !q.Force {
		if err := s.checkAbsent(ctx, to); err != nil {
			return i, err
		}
	}
	row, err := s.newImportRow(q, from, to)
	if err != nil {
		return i, err
	}
	err = s.DB.UpdateWithReserve(ctx, func(tx *metadb.Tx) (err error) {
		i, err = s.record(tx, row, q, from)
		return err
	})
	s.Wake()
	return i, err
}

// record records a new import, unless the same one has not ended.
func (s *Service) record(tx *metadb.Tx, row metadb.Import, q ImportRequest, from Image) (Import, error) {
	all, err := tx.UnfinishedImports()
	if err != nil {
		return Import{}, err
	}
	if i := slices.IndexFunc(all, func(o metadb.Import) bool { return o.ID == row.ID }); i >= 0 {
		if !s.sameSettings(all[i], q, from) {
			return Import{}, fmt.Errorf("import %s: %w", row.ID, ErrDiffers)
		}
		return s.importOf(all[i])
	}
	if len(all) >= maxImports {
		return Import{}, ErrBusy
	}
	if _, err := tx.PutImport(row); err != nil {
		return Import{}, err
	}
	if err := tx.TrimImports(s.Now().Add(-importAge), maxImports); err != nil {
		return Import{}, err
	}
	if err := s.audit(tx, row, q.Sender, "import", "from "+q.Source); err != nil {
		return Import{}, err
	}
	return s.importOf(row)
}

// checkAbsent returns [ErrExists] if one of the tags exists.
func (s *Service) checkAbsent(ctx context.Context, to []destination) error {
	for _, d := range to {
		if d.Tag == "" {
			continue
		}
		_, err := s.Storage.Tag(ctx, d.Repository, d.Tag)
		if err == nil {
			return fmt.Errorf("%s: %w", d, ErrExists)
		}
		if !errors.Is(err, oci.ErrManifestUnknown) {
			return err
		}
	}
	return nil
}

// CancelImport ends an import; what it has fetched is collected as garbage later, unless something else needs it.
// The process that runs it notices. actor and sender are for the audit log. An import that is cancelled already
// stays so. The error wraps [ErrNoImport] or, if the import has ended in another way, [ErrEnded].
func (s *Service) CancelImport(ctx context.Context, id, actor, sender string) (i Import, err error) {
	err = s.DB.UpdateWithReserve(ctx, func(tx *metadb.Tx) error {
		row, err := importRow(tx, id)
		if err != nil {
			return err
		}
		if i, err = s.importOf(row); err != nil || i.State == ImportCancelled {
			return err
		}
		if !i.EndedAt.IsZero() {
			return fmt.Errorf("import %s: %w: %s", id, ErrEnded, i.State)
		}
		i.State, i.EndedAt, i.BytesPerSecond = ImportCancelled, s.Now(), 0
		i.Problem, i.Hint = "", ""
		row = withState(row, i)
		if err := tx.EndImport(row); err != nil {
			return err
		}
		if err := replication.ForgetSource(tx, importSource+id); err != nil {
			return err
		}
		row.Actor = actor
		return s.audit(tx, row, sender, "cancel", "")
	})
	s.Wake()
	return i, err
}

// Imports returns the remembered imports, the latest first.
func (s *Service) Imports(ctx context.Context) ([]Import, error) {
	rows, err := metadb.Read(ctx, s.DB, (*metadb.Tx).Imports)
	if err != nil {
		return nil, err
	}
	all := make([]Import, 0, len(rows))
	for _, row := range rows {
		i, err := s.importOf(row)
		if err != nil {
			return nil, err
		}
		all = append(all, i)
	}
	return all, nil
}

// ImportOf returns the state of the import with this ID. The error wraps [ErrNoImport] if it is not remembered.
func (s *Service) ImportOf(ctx context.Context, id string) (Import, error) {
	row, err := metadb.Read(ctx, s.DB, func(tx *metadb.Tx) (metadb.Import, error) { return importRow(tx, id) })
	if err != nil {
		return Import{}, err
	}
	return s.importOf(row)
}

// importID derives the ID from the request, so that a repeated request has the same ID.
func importID(source string, to []destination) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q", source)
	for _, d := range to {
		fmt.Fprintf(h, " %q %q", d.Repository, d.Tag)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}
