package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"ferry/test/image"
	"ferry/test/instance"
)

// A Load is clients that push, pull and delete, and that know what was acknowledged to them. One
// pusher changes a repository, so that its content is known at any time.
type Load struct {
	login  instance.Login
	images []*image.Image
	repos  []*repository

	pushes, deletes, pulls, retries atomic.Int64
	outages                         atomic.Int64 // begun and ended

	mu   sync.Mutex
	most int // see [Load.MostFailures]
}

// MostFailures returns how often the client that had to try most often failed before it succeeded.
func (l *Load) MostFailures() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.most
}

// AwaitRequests waits until some more pulls and pushes have begun.
func (l *Load) AwaitRequests(ctx context.Context, n int64) {
	sum := func() int64 { return l.pushes.Load() + l.pulls.Load() }
	for begun := sum(); sum() < begun+n && ctx.Err() == nil; {
		_ = sleep(ctx, pause)
	}
}

// Outage says that the database does not answer from now on, and that it does again when the caller
// calls ended. Meanwhile a process may answer with what it has in memory.
func (l *Load) Outage() (ended func()) {
	l.outages.Add(1)
	return func() { l.outages.Add(1) }
}

// Patience is how long a request is tried again before it counts as failed.
const Patience = time.Minute

// pause is how long each client waits between two requests.
const pause = 20 * time.Millisecond

// repository is what its pusher knows of a repository.
type repository struct {
	name    string
	mu      sync.RWMutex // held for writing while a tag or manifest changes
	tags    map[string]digest.Digest
	version int // is incremented by each change
	// doubt is the change that failed last, which may have had an effect: a tag that was set to a
	// digest, or "" and a digest that was deleted.
	doubt struct {
		tag    string
		digest digest.Digest
	}
}

// mayBe reports whether a tag may have a digest, "" for none, because a change failed.
func (r *repository) mayBe(tag string, d digest.Digest) bool {
	if d == "" {
		return r.doubt.tag == "" && r.doubt.digest != "" && r.doubt.digest == r.tags[tag]
	}
	return r.doubt.tag == tag && r.doubt.digest == d
}

// NewLoad returns a load on repositories load/0 and so on, with images that all of them share.
func NewLoad(login instance.Login, repositories int, images []*image.Image) *Load {
	l := &Load{login: login, images: images}
	for i := range repositories {
		l.repos = append(l.repos, &repository{name: fmt.Sprintf("load/%d", i), tags: map[string]digest.Digest{}})
	}
	return l
}

// Run pushes, pulls and deletes until stop ends. Then it finishes what it has begun, and returns
// the first error: an acknowledged push that is lost, or a request that failed for longer than
// [Patience].
func (l *Load) Run(ctx, stop context.Context, seed uint64) error {
	all, ctx := errgroup.WithContext(ctx)
	for i, r := range l.repos {
		for name, work := range map[string]func(context.Context, *repository, *rand.Rand) error{
			"push": l.change, "pull": l.pull,
		} {
			all.Go(func() error {
				rng := rand.New(rand.NewPCG(seed, uint64(i)<<8+uint64(name[2])))
				for stop.Err() == nil && ctx.Err() == nil {
					if err := work(ctx, r, rng); err != nil {
						return fmt.Errorf("%s: %w", r.name, err)
					}
					_ = sleep(ctx, pause)
				}
				return nil
			})
		}
	}
	return all.Wait()
}

// String says how much was done.
func (l *Load) String() string {
	return fmt.Sprintf("%d pushes, %d deletions, %d pulls, %d retries", l.pushes.Load(), l.deletes.Load(),
		l.pulls.Load(), l.retries.Load())
}

// Content returns the acknowledged tags of each repository.
func (l *Load) Content() map[string]map[string]digest.Digest {
	content := map[string]map[string]digest.Digest{}
	for _, r := range l.repos {
		r.mu.RLock()
		content[r.name] = maps.Clone(r.tags)
		r.mu.RUnlock()
	}
	return content
}

// change pushes an image, or deletes one with all its tags.
func (l *Load) change(ctx context.Context, r *repository, rng *rand.Rand) error {
	img := l.images[rng.IntN(len(l.images))]
	if rng.IntN(3) > 0 {
		tag := fmt.Sprintf("t%d", rng.IntN(4))
		l.pushes.Add(1)
		return l.retry(ctx, func(ctx context.Context) error { return l.push(ctx, r, img, tag) })
	}
	l.deletes.Add(1)
	return l.retry(ctx, func(ctx context.Context) error { return l.delete(ctx, r, img.Digest) })
}

func (l *Load) push(ctx context.Context, r *repository, img *image.Image, tag string) error {
	for _, b := range img.Blobs() {
		resp, err := l.login.Do(ctx, http.MethodHead, "/v2/"+r.name+"/blobs/"+b.Digest.String(), nil, nil, 0)
		if err == nil {
			resp.Body.Close()
			continue
		}
		if !isStatus(err, http.StatusNotFound) {
			return err
		}
		if err := l.login.PushBlob(ctx, r.name, img.Blob(b.Digest), b); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(img.Blob(img.Digest))
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.version++
	resp, err := l.login.Do(ctx, http.MethodPut, "/v2/"+r.name+"/manifests/"+tag,
		http.Header{"Content-Type": {v1.MediaTypeImageManifest}}, bytes.NewReader(text), int64(len(text)))
	if err != nil {
		r.doubt.tag, r.doubt.digest = tag, img.Digest
		return err
	}
	resp.Body.Close()
	r.tags[tag], r.doubt.digest = img.Digest, ""
	return nil
}

func (l *Load) delete(ctx context.Context, r *repository, d digest.Digest) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.version++
	resp, err := l.login.Do(ctx, http.MethodDelete, "/v2/"+r.name+"/manifests/"+d.String(), nil, nil, 0)
	if err != nil && !isStatus(err, http.StatusNotFound) {
		r.doubt.tag, r.doubt.digest = "", d
		return err
	}
	r.doubt.digest = ""
	if err == nil {
		resp.Body.Close()
	}
	maps.DeleteFunc(r.tags, func(_ string, tagged digest.Digest) bool { return tagged == d })
	return nil
}

// pull pulls an acknowledged tag, which must succeed.
func (l *Load) pull(ctx context.Context, r *repository, rng *rand.Rand) error {
	return l.retry(ctx, func(ctx context.Context) error {
		r.mu.RLock()
		defer r.mu.RUnlock()
		tags := slices.Sorted(maps.Keys(r.tags))
		if len(tags) == 0 {
			return sleep(ctx, 20*time.Millisecond)
		}
		tag := tags[rng.IntN(len(tags))]
		want := r.tags[tag]
		l.pulls.Add(1)
		before := l.outages.Load()
		got, err := l.login.Pull(ctx, r.name, tag)
		switch {
		case err != nil && !isStatus(err, http.StatusNotFound):
			return err
		case err != nil:
			err = fmt.Errorf("pull of acknowledged %s:%s: %w", r.name, tag, err)
		case got != want:
			err = fmt.Errorf("%s:%s is %s; %s was acknowledged", r.name, tag, got, want)
		}
		if err == nil || r.mayBe(tag, got) {
			return nil
		}
		if before%2 == 1 || l.outages.Load() != before {
			return err
		}
		return &lostError{err}
	})
}

// A lostError says that something acknowledged is not there. It is not tried again.
type lostError struct{ error }

// retry calls do until it succeeds, for at most Patience. A push whose layers were collected
// because the grace period of the test is short begins again, too.
func (l *Load) retry(ctx context.Context, do func(context.Context) error) error {
	deadline := time.Now().Add(Patience)
	for failures := 1; ; failures++ {
		err := func() error {
			ctx, cancel := context.WithDeadline(ctx, deadline)
			defer cancel()
			return do(ctx)
		}()
		if err == nil || errors.As(err, new(*lostError)) {
			return err
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return fmt.Errorf("failed for %s: %w", Patience, err)
		}
		l.retries.Add(1)
		l.mu.Lock()
		l.most = max(l.most, failures)
		l.mu.Unlock()
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// isStatus reports whether err is an answer with a status.
func isStatus(err error, status int) bool {
	answer, ok := errors.AsType[*instance.StatusError](err)
	return ok && answer.Status == status
}
