package mirror

import (
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
	Source             string   // as [ParseImage] reads it
	Images             []string // REPOSITORY[:TAG] here; none is the source's own name, unless Repository is given
	Repository         string   // to copy it to without a tag; "" is none
	Force              bool     // move tags that exist
	Username, Password string   // "" is as Docker's configuration says
	CA                 string   // PEM; see [Spec]
}

// like reports whether both requests, of the same image for the same names,
// go about it in the same way.
func (q ImportRequest) like(o ImportRequest) bool {
	return q.Username == o.Username && q.Password == o.Password && q.CA == o.CA && q.Force == o.Force
}

// targets are what is to be here, without a digest yet.
func (q ImportRequest) targets(from Location, reference string) ([]destination, error) {
	images := q.Images
	if len(images) == 0 && q.Repository == "" {
		if oci.IsDigest(reference) {
			return nil, errors.New("a digest says no tag: want --image REPOSITORY:TAG, or --repository NAME for a copy without a tag")
		}
		images = []string{from.Repository}
	}
	if len(images) > maxTargets {
		return nil, fmt.Errorf("%d images are too many: at most %d are allowed", len(images), maxTargets)
	}
	var items []destination
	for _, text := range images {
		name, tag, ok := strings.Cut(text, ":")
		if !ok {
			if tag = reference; oci.IsDigest(reference) {
				tag = "latest"
			}
		}
		if err := errors.Join(oci.CheckRepository(name), oci.CheckTag(tag)); err != nil {
			return nil, fmt.Errorf("image %.200q: %w", text, err)
		}
		items = append(items, destination{Repository: name, Tag: tag})
	}
	if q.Repository != "" {
		if err := oci.CheckRepository(q.Repository); err != nil {
			return nil, fmt.Errorf("repository %.200q: %w", q.Repository, err)
		}
		items = append(items, destination{Repository: q.Repository})
	}
	return items, nil
}

// A destination is where an import puts its image.
type destination struct {
	Repository string
	Tag        string // "" is none
}

// An Import is one as it goes.
type Import struct {
	ID        string
	Source    string
	Targets   []string
	Digest    digest.Digest // "" until the source said it
	State     ImportState
	Trouble   string // why it failed, or does not get on just now
	Advice    string // what to do about that, where it failed; "" is nothing
	StartedAt time.Time
	EndedAt   time.Time // zero while it is on its way
	Progress  replication.Progress

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

// Import begins to bring an image here and returns at once. The same request
// again, while it is on its way, is answered with that; after it failed, it
// goes on from the same byte. An import ends with the program: only what came
// stays. A tag that comes to be here meanwhile is not moved either, without
// force: that import fails.
//
// The error is a [RequestError]; or [ErrExists], wrapped, where a tag is here
// already and may not be moved; or [ErrDiffers], wrapped, where the same is on
// its way in another way; or [ErrBusy], [ErrStopped], or the database's.
func (s *Service) Import(ctx context.Context, q ImportRequest) (Import, error) {
	from, reference, err := ParseImage(q.Source)
	if err != nil {
		return Import{}, RequestError{err}
	}
	items, err := q.targets(from, reference)
	if err != nil {
		return Import{}, RequestError{err}
	}
	src, err := s.source(from, access{q.Username, q.Password, q.CA})
	if err != nil {
		return Import{}, RequestError{err}
	}
	if !q.Force {
		if err := s.absent(ctx, items); err != nil {
			return Import{}, err
		}
	}
	j := newJob(s, q, src, reference, items)
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
	s.jobs.Go(j.run)
	return j.now(), nil
}

// makeRoom forgets imports that are over, where there are too many.
func (s *Service) makeRoom() error {
	if !s.open {
		return ErrStopped
	}
	for len(s.imports) >= maxImports {
		i := slices.IndexFunc(s.imports, (*job).over)
		if i < 0 {
			return ErrBusy
		}
		s.imports = slices.Delete(s.imports, i, i+1)
	}
	return nil
}

// absent returns [ErrExists] when one of the tags is here.
func (s *Service) absent(ctx context.Context, items []destination) error {
	for _, item := range items {
		if item.Tag == "" {
			continue
		}
		_, err := s.Storage.Manifest(ctx, item.Repository, item.Tag)
		if err == nil || errors.Is(err, oci.ErrDenied) {
			return fmt.Errorf("%s: %w", target(item.Repository, item.Tag), ErrExists)
		}
		if e := oci.AsError(err); e == nil || e.Status >= 500 {
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

// ImportOf returns the import id as it is now; ok is false where nobody
// remembers it.
func (s *Service) ImportOf(id string) (i Import, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.imports {
		if j.state.ID == id {
			return j.now(), true
		}
	}
	return Import{}, false
}

// importID is the same for the same request, so that it can be made again.
func importID(source string, items []destination) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q", source)
	for _, i := range items {
		fmt.Fprintf(h, " %q %q", i.Repository, i.Tag)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// discard forgets an import's items and, once they are all here, what kept
// its content from collection.
func (s *Service) discard(ctx context.Context, source string, done bool) error {
	return s.DB.Update(ctx, func(tx *metadb.Tx) error {
		if done {
			return replication.ForgetSource(tx, source)
		}
		return tx.ForgetSource(source)
	})
}
