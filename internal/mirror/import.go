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

	"ferry/internal/oci"
	"ferry/internal/replication"
)

// Limits on imports.
const (
	maxImports   = 100 // waiting, running and remembered ones together
	maxTargets   = 50  // of one import
	importTries  = 5   // to resolve the image at a source that cannot be reached
	importSource = "import/"
)

// Errors of [Service.Import].
var (
	ErrBusy    = errors.New("too many imports are waiting")
	ErrStopped = errors.New("the registry is stopping")
	ErrExists  = errors.New("the tag exists already")
	ErrOutside = errors.New("the repository is outside of the limits of the operator")
	ErrDiffers = errors.New("it is already running, with another user, password, certificate authority or force")
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
	// Covers reports whether the caller may write to a repository; nil is to every one.
	Covers func(repository string) bool
	// Ended is called once, when the import has succeeded or failed; nil is allowed. A request for an import that
	// runs already has no call.
	Ended func(Import)
}

// sameSettings reports whether both requests, which have the same ID, agree in all other
// settings.
func (q ImportRequest) sameSettings(o ImportRequest) bool {
	return q.Username == o.Username && q.Password == o.Password && q.CA == o.CA && q.Force == o.Force
}

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
	Digest    digest.Digest // "" until the source has resolved the tag
	State     ImportState
	Problem   string // why it failed, or why it makes no progress at the moment
	Hint      string // how to solve the problem; may be ""
	StartedAt time.Time
	EndedAt   time.Time // zero until it ends
	Progress  replication.Progress
	Warnings  []Warning

	BytesPerSecond int64 // over the last seconds; 0 once it has ended
}

// An ImportState is a phase of an [Import].
type ImportState string

// The states of an import.
const (
	ImportPending   ImportState = "Pending"
	ImportRunning   ImportState = "Running"
	ImportSucceeded ImportState = "Succeeded"
	ImportFailed    ImportState = "Failed"
)

// Import starts an import and returns immediately. While it runs, the same request
// returns the same import. After it failed, the same request resumes from the same byte.
// An import does not survive the process; only the bytes that it fetched do. If a tag is
// created here in the meantime, the import fails unless it is forced.
//
// The error is a [RequestError]; or it wraps [ErrOutside] if the caller may not write to a
// destination, [ErrExists] if a tag exists and must not be moved, or [ErrDiffers] if the same
// import runs with other settings; or it is [ErrBusy], [ErrStopped], or an error of the database.
func (s *Service) Import(ctx context.Context, q ImportRequest) (Import, error) {
	from, err := parseImage(q.Source)
	if err != nil {
		return Import{}, RequestError{err}
	}
	to, err := q.destinations(from)
	if err != nil {
		return Import{}, RequestError{err}
	}
	if q.Covers != nil {
		for _, d := range to {
			if !q.Covers(d.Repository) {
				return Import{}, fmt.Errorf("import to %s: %w", d, ErrOutside)
			}
		}
	}
	src, err := s.source(from.Location, access{q.Username, q.Password, q.CA})
	if err != nil {
		return Import{}, RequestError{err}
	}
	if !q.Force {
		if err := s.checkAbsent(ctx, to); err != nil {
			return Import{}, err
		}
	}
	j := newImportJob(s, q, src, from.reference(), to)
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.IndexFunc(s.imports, func(o *importJob) bool { return o.state.ID == j.state.ID }); i >= 0 {
		if same := s.imports[i]; !same.ended() {
			if !same.request.sameSettings(q) {
				return Import{}, fmt.Errorf("import %s: %w", same.state.ID, ErrDiffers)
			}
			return same.snapshot(), nil
		}
		s.imports = slices.Delete(s.imports, i, i+1)
	}
	if err := s.evictOldest(); err != nil {
		return Import{}, err
	}
	s.imports = append(s.imports, j)
	jobContext := s.jobContext
	s.jobs.Go(func() { j.run(jobContext) })
	return j.snapshot(), nil
}

// evictOldest forgets the oldest ended import if there are too many imports.
func (s *Service) evictOldest() error {
	if s.jobContext == nil {
		return ErrStopped
	}
	if len(s.imports) < maxImports {
		return nil
	}
	i := slices.IndexFunc(s.imports, (*importJob).ended)
	if i < 0 {
		return ErrBusy
	}
	s.imports = slices.Delete(s.imports, i, i+1)
	return nil
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

// Imports returns the remembered imports, the latest first.
func (s *Service) Imports() []Import {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Import
	for _, j := range slices.Backward(s.imports) {
		all = append(all, j.snapshot())
	}
	return all
}

// ImportOf returns the state of the import with this ID; ok is false if it is not
// remembered.
func (s *Service) ImportOf(id string) (_ Import, ok bool) {
	for _, i := range s.Imports() {
		if i.ID == id {
			return i, true
		}
	}
	return Import{}, false
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
