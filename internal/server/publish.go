package server

import (
	"context"
	"log/slog"
	"net/url"
	"time"

	"golang.org/x/sync/errgroup"

	"ferry/internal/retry"
	"ferry/internal/wire"
)

// A CAPublisher makes the certificates of the instance's CA, as PEM, known to others.
type CAPublisher interface {
	Publish(ctx context.Context, bundle []byte) error
}

// A LoginPublisher makes the login at the parent known to others, such as the nodes that pull the
// image of Ferry there. The registries are the parent's addresses.
type LoginPublisher interface {
	PublishLogin(ctx context.Context, user, password string, registries []*url.URL) error
}

const (
	// publishInterval is the time after which content is published again, because somebody may have
	// removed it.
	publishInterval = time.Hour
	publishTimeout  = 30 * time.Second
)

// A publication writes something of the instance to another place, such as an object in Kubernetes.
type publication struct {
	subject string // for the log
	publish func(context.Context) error
	log     *slog.Logger
	changed chan struct{} // has an element if it is to be published
}

func newPublication(log *slog.Logger, subject string, publish func(context.Context) error) *publication {
	return &publication{subject, publish, log, make(chan struct{}, 1)}
}

// notify makes [publication.run] publish.
func (p *publication) notify() {
	select {
	case p.changed <- struct{}{}:
	default: // it will publish the present content anyway
	}
}

// run publishes after each change, and retries until that succeeds, or ctx ends.
func (p *publication) run(ctx context.Context) error {
	pauses := retry.NewBackoff(time.Second, 5*time.Minute, 2)
	failed, pause := "", publishInterval
	for retry.Sleep(ctx, pause, p.changed) == nil {
		err := p.once(ctx)
		if err == nil {
			if failed != "" {
				p.log.Info(p.subject + " is published now")
			}
			pauses.Reset()
			failed, pause = "", publishInterval
			continue
		}
		if ctx.Err() == nil && failed != err.Error() {
			failed = err.Error()
			logHinted(p.log, p.subject+" is not published; trying again", err)
		}
		pause = pauses.NextBackOff()
	}
	return nil
}

func (p *publication) once(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	return p.publish(ctx)
}

// A loginSource knows the login that the parent accepted last. [credential.Store] implements it.
type loginSource interface {
	InUse() (login wire.ConnectionString, changed <-chan struct{})
}

// publishLogin publishes the login at the parent when that changes, until ctx ends.
func publishLogin(ctx context.Context, log *slog.Logger, source loginSource, publisher LoginPublisher) error {
	p := newPublication(log, "the login at the parent", func(ctx context.Context) error {
		login, _ := source.InUse()
		if login.Password == "" {
			return nil
		}
		return publisher.PublishLogin(ctx, login.Token, login.Password, login.URLs())
	})
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error { return p.run(ctx) })
	all.Go(func() error {
		var last wire.ConnectionString
		for {
			login, changed := source.InUse()
			if login != last {
				last = login
				p.notify()
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return nil
			}
		}
	})
	return all.Wait()
}
