package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// drainTimeout is how long running requests may take after the instance was told to stop.
// A transfer that is cut after that continues from the same byte at the next start.
const drainTimeout = 15 * time.Second

// serveThenDrain serves until ctx ends. Then it calls draining, and continues to serve for the
// time that this returns. Then it stops listening, waits up to [drainTimeout] for running
// requests, and cuts the others.
func serveThenDrain(
	ctx context.Context, srv *http.Server, l net.Listener, log *slog.Logger, draining func() (delay time.Duration),
) error {
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	if delay := draining(); delay > 0 {
		log.Info("stopping; new requests are still served for a while", "for", delay)
		select {
		case err := <-served:
			return fmt.Errorf("serve on %s: %w", l.Addr(), err)
		case <-time.After(delay):
		}
	}
	log.Info("stopping; running requests may finish", "for", drainTimeout)
	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if err := srv.Shutdown(deadline); err != nil {
		log.Warn("cutting requests that are still running")
		srv.Close()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", l.Addr(), err)
	}
	return nil
}

// cancelOnStop cancels requests for path when stop ends, because polls are held until
// something changes. Other requests may finish.
func cancelOnStop(stop context.Context, path string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == path {
			ctx, cancel := context.WithCancelCause(r.Context())
			defer cancel(nil)
			defer context.AfterFunc(stop, func() { cancel(errDraining) })()
			r = r.WithContext(ctx)
		}
		next.ServeHTTP(w, r)
	})
}
