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
	maxImports   = 100 // that are remembered, and that may wait
	maxTargets   = 50  // of one
	importTries  = 5   // in a row at a source that cannot be reached, before anything came
	importSource = "import/"
)

// Errors of [Service.Import].
var (
	ErrBusy    = errors.New("too many imports are waiting")
	ErrStopped = errors.New("the registry is stopping")
	ErrExists  = errors.New("the tag exists already")
	ErrDiffers = errors.New("it is on its way already, with another user, password, certificate authority or force")
)

// A RequestError says what is wrong with a request.
type RequestError struct{ error }

// Unwrap returns the error itself.
func (e RequestError) Unwrap() error { return e.error }

// An ImportRequest asks for one image of another registry.
type ImportRequest struct {
	Source             string   // HOST/REPOSITORY[:TAG][@DIGEST]; without both, the tag is latest
	Images             []string // REPOSITORY[:TAG] here; none is the source's own name, unless Repository is given
	Repository         string   // to copy it to without a tag; "" is none
	Force              bool     // move tags that exist
	Username, Password string   // "" is as Docker's configuration says
	CA                 string   // PEM; see [Spec]
}

// like reports whether both requests, which have the same ID, ask for the same
// import.
func (q ImportRequest) like(o ImportRequest) bool {
	return q.Username == o.Username && q.Password == o.Password && q.CA == o.CA && q.Force == o.Force
}

// destinations are where the import puts its image.
func (q ImportRequest) destinations(from Image) ([]destination, error) {
	images := q.Images
	if len(images) == 0 && q.Repository == "" {
		if from.Tag == "" {
			return nil, errors.New("a digest says no tag: " +
				"want --image REPOSITORY:TAG, or --repository NAME for a copy without a tag")
		}
		images = []string{from.Repository}
	}
	if len(images) > maxTargets {
		return nil, fmt.Errorf("%d images are too many: at most %d are allowed", len(images), maxTargets)
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

// A destination is where an import puts its image.
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

// An Import says how an import goes.
type Import struct {
	ID        string
	Source    string
	Targets   []string
	Digest    digest.Digest // "" until the source said it
	State     ImportState
	Problem   string // why it failed, or why nothing comes just now
	Hint      string // what to do about a failure; "" is nothing
	StartedAt time.Time
	EndedAt   time.Time // zero while it is on its way
	Progress  replication.Progress
	Warnings  []Warning

	BytesPerSecond int64 // over the last seconds; 0 once it is over
}

// An ImportState is how far an [Import] is.
type ImportState string

// The states of an import.
const (
	ImportPending   ImportState = "Pending"
	ImportRunning   ImportState = "Running"
	ImportSucceeded ImportState = "Succeeded"
	ImportFailed    ImportState = "Failed"
)

// Import begins to copy an image here and returns at once. The same request
// again returns the same import while that is on its way; after it failed, it
// continues from the same byte. An import ends with the program: only the bytes
// that came stay. A tag that appears here meanwhile is not moved either, unless
// the import is forced: it fails.
//
// The error is a [RequestError]; or [ErrExists], wrapped, if a tag is here
// already and may not be moved; or [ErrDiffers], wrapped, if the same image is on
// its way in another way; or [ErrBusy], [ErrStopped], or the database's.
func (s *Service) Import(ctx context.Context, q ImportRequest) (Import, error) {
	from, err := parseImage(q.Source)
	if err != nil {
		return Import{}, RequestError{err}
	}
	to, err := q.destinations(from)
	if err != nil {
		return Import{}, RequestError{err}
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
	j := newJob(s, q, src, from.reference(), to)
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.IndexFunc(s.imports, func(o *job) bool { return o.state.ID == j.state.ID }); i >= 0 {
		if same := s.imports[i]; !same.over() {
			if !same.request.like(q) {
				return Import{}, fmt.Errorf("import %s: %w", same.state.ID, ErrDiffers)
			}
			return same.now(), nil
		}
		s.imports = slices.Delete(s.imports, i, i+1)
	}
	if err := s.makeRoom(); err != nil {
		return Import{}, err
	}
	s.imports = append(s.imports, j)
	life := s.life
	s.jobs.Go(func() { j.run(life) })
	return j.now(), nil
}

// makeRoom forgets the oldest import that is over if there are too many.
func (s *Service) makeRoom() error {
	if s.life == nil {
		return ErrStopped
	}
	if len(s.imports) < maxImports {
		return nil
	}
	i := slices.IndexFunc(s.imports, (*job).over)
	if i < 0 {
		return ErrBusy
	}
	s.imports = slices.Delete(s.imports, i, i+1)
	return nil
}

// checkAbsent returns [ErrExists] if one of the tags is here.
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

// Imports returns the imports that are remembered, the latest first.
func (s *Service) Imports() []Import {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Import
	for _, j := range slices.Backward(s.imports) {
		all = append(all, j.now())
	}
	return all
}

// ImportOf returns the import id as it is now; ok is false if it is not
// remembered.
func (s *Service) ImportOf(id string) (_ Import, ok bool) {
	for _, i := range s.Imports() {
		if i.ID == id {
			return i, true
		}
	}
	return Import{}, false
}

// importID is the same for the same request, so that it can be made again.
func importID(source string, to []destination) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q", source)
	for _, d := range to {
		fmt.Fprintf(h, " %q %q", d.Repository, d.Tag)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}
